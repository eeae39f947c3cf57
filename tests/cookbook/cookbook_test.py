"""The cookbook is right: each of its commands prints what the page says, on a real mesh.

From top to bottom, as a reader does it: what one recipe makes, the next one uses.
"""

import asyncio
import os
import sys
from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import UTC, date, datetime, time, timedelta
from functools import partial
from pathlib import Path
from typing import Final

import pytest

from meshtest.eventually import eventually
from tests.cookbook.recipe import Recipe, recipes
from tests.cookbook.shape import Differs, exit_code, match
from tier import api

_PAGE: Final = Path("docs/cookbook.md")
_CONFIG: Final = Path("docs/examples/cookbook.yaml")
# Of the page; the test's mesh has a free port in its place.
_ADDRESS: Final = "localhost:8443"
_COMMAND_SECONDS: Final = 120.0
# What a recipe shows may come about a moment after what it follows from.
_COMES_ABOUT_SECONDS: Final = 60.0
# What the gateway says where no coordinator has told it in time whose a key is.
_UNCHECKED: Final = "API keys cannot be checked now"
_BUSY_SECONDS: Final = 60.0
# From here on the page tells what was spent on this day, which is one of UTC.
_OF_THE_DAY: Final = "/budgets/task-type-day-"
# The recipes on it take less.
_OF_THE_DAY_SECONDS: Final = 120.0


@dataclass
class _Reader:
    """Somebody at a shell, with a mesh in their home."""

    folder: Path
    address: str
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
            f"{command.replace(_ADDRESS, self.address)}\n"
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
        reader = _Reader(tmp_path, f"localhost:{port}")
        day: date | None = None
        for recipe in found:
            if day is None and _OF_THE_DAY in recipe.command:
                day = await _day_with_time_left()
            try:
                if recipe.reads_only:
                    await eventually(partial(reader.follow, recipe), _COMES_ABOUT_SECONDS)
                else:
                    await reader.follow(recipe)
            except Exception as error:
                raise AssertionError(f"{_PAGE}:{recipe.line}: {recipe.command}\n{error}") from error


async def _day_with_time_left() -> date:
    """The day, in UTC; the next one where this one ends too soon, once it has begun."""
    now = datetime.now(UTC)
    begins = datetime.combine(now.date() + timedelta(days=1), time(), UTC)
    left_seconds = (begins - now).total_seconds()
    if left_seconds > _OF_THE_DAY_SECONDS:
        return now.date()
    await asyncio.sleep(left_seconds + 1)
    return begins.date()
