"""The cookbook is right: each of its commands prints what the page says, on a real mesh.

From top to bottom, as a reader does it: what one recipe makes, the next one uses.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from functools import partial
from pathlib import Path
from typing import Final
from zoneinfo import ZoneInfo

import pytest

from meshtest.eventually import eventually
from tests.cookbook.recipe import Recipe, recipes
from tests.cookbook.shape import Differs, exit_code, match
from tier import api

_PAGE: Final = Path("docs/cookbook.md")
_CONFIG: Final = Path("docs/examples/cookbook.yaml")
# Of the page; the test's mesh has a free port in its place,
_ADDRESS: Final = "localhost:8443"
# and budgets a zone in whose day there is time for all of the page.
_ZONE: Final = "Europe/Berlin"
_NOON: Final = 12
_COMMAND_SECONDS: Final = 120.0
# What a recipe shows may come about a moment after what it follows from.
_COMES_ABOUT_SECONDS: Final = 60.0
# What the gateway says where no coordinator has told it in time whose a key is.
_UNCHECKED: Final = "API keys cannot be checked now"
_BUSY_SECONDS: Final = 60.0


@dataclass
class _Reader:
    """Somebody at a shell, with a mesh in their home."""

    folder: Path
    address: str
    time_zone: str
    # What they have kept, by name.
    kept: dict[str, str] = field(default_factory=dict[str, str])

    async def follow(self, recipe: Recipe) -> bool:
        """True: what the page says comes of it.

        Raises:
            Differs: Something else is printed, or the command ends otherwise.
        """
        if recipe.printed is None:
            raise Differs("the page does not say what this prints")
        answered = await eventually(lambda: self._answered(recipe.command), _BUSY_SECONDS)
        assert answered is not None
        printed, code = answered
        if code != exit_code(recipe.printed):
            raise Differs(f"it ends with {code}: {printed}")
        try:
            self.kept = match(recipe.printed, printed, self.kept)
        except Differs as error:
            raise Differs(f"{error}\n{printed}") from None
        return True

    async def _answered(self, command: str) -> tuple[str, int] | None:
        """What comes of it; None where nobody has seen the call, as on a busy machine."""
        printed, code = await self._run(command)
        return None if _UNCHECKED in printed else (printed, code)

    async def _run(self, command: str) -> tuple[str, int]:
        """What comes of it in a shell that knows what was set before."""
        state = self.folder / "shell"
        script = (
            f"[ ! -e {state} ] || . {state}\n"
            f"trap '(export -p; declare -f) > {state}' EXIT\n"
            f"{command.replace(_ADDRESS, self.address).replace(_ZONE, self.time_zone)}\n"
        )
        process = await asyncio.create_subprocess_exec(
            *("bash", "-euo", "pipefail", "-c", script),
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
            env=self._environment(),
        )
        try:
            async with asyncio.timeout(_COMMAND_SECONDS):
                printed, _ = await process.communicate()
        finally:
            if process.returncode is None:
                process.kill()
        assert process.returncode is not None
        return printed.decode(), process.returncode

    def _environment(self) -> Mapping[str, str]:
        programs = self.folder / "programs"
        kept = {"PYTHONPATH": os.pathsep.join(sys.path), "HOME": str(self.folder / "home")}
        return {"PATH": f"{programs}:{os.environ['PATH']}", **kept, **self.kept}


@pytest.fixture
def programs(tmp_path: Path) -> None:
    """What the reader has on the path: `grpcurl`, and `agentmesh` as the checkout has it."""
    grpcurl = os.environ.get("GRPCURL")
    if not grpcurl:
        pytest.skip("GRPCURL names no grpcurl: it is built where there is a Go toolchain")
    folder = tmp_path / "programs"
    folder.mkdir()
    (folder / "grpcurl").symlink_to(grpcurl)
    command = folder / "agentmesh"
    run = "from cli.app import app; app.main(prog_name='agentmesh')"
    command.write_text(f'#!/bin/sh\nexec "{sys.executable}" -c "{run}" "$@"\n')
    command.chmod(0o755)


@pytest.mark.usefixtures("programs")
async def test_every_recipe_prints_what_the_page_says(tmp_path: Path) -> None:
    """In the order of the page, each of its blocks of commands."""
    found = recipes(_PAGE.read_text("utf-8"))
    assert found
    options = api.MeshOptions(
        tier=api.Tier.STAGING,
        data_dir=tmp_path / "home/.local/share/agentmesh",
        port=0,
        config=_CONFIG.absolute(),
    )
    async with await api.start(options, lambda _: None) as mesh:
        assert mesh.state.tls_address is not None
        port = mesh.state.tls_address.rpartition(":")[2]
        reader = _Reader(tmp_path, f"localhost:{port}", _zone_at_noon(datetime.now(UTC)))
        for recipe in found:
            try:
                if recipe.reads_only:
                    await eventually(partial(reader.follow, recipe), _COMES_ABOUT_SECONDS)
                else:
                    await reader.follow(recipe)
            except Exception as error:
                raise AssertionError(f"{_PAGE}:{recipe.line}: {recipe.command}\n{error}") from error


@pytest.mark.parametrize("hour", range(24))
def test_budgets_begin_anew_long_after_the_page(hour: int) -> None:
    """Whenever the test is run."""
    now = datetime(2026, 1, 1, hour, 59, tzinfo=UTC)
    assert now.astimezone(ZoneInfo(_zone_at_noon(now))).hour == _NOON


def _zone_at_noon(now: datetime) -> str:
    """The time zone in which it is noon."""
    # POSIX names them by how far they are behind UTC.
    return f"Etc/GMT{now.hour - _NOON:+d}"
