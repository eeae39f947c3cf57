"""A key or an address of a provider in the environment, and what a mesh does with it."""

import asyncio
import json
import os
import sys
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest

from services.reasoning.upstream_openai import OpenAIFormat, OpenAIServer, openai_server
from tests.e2e.running_mesh import running
from tier.api import MeshStartError, Tier, read_state

_KEY = "sk-scripted-0123456789"
_PROGRAM = "from cli.app import app; app.main(prog_name='agentmesh')"
_TIERS = (Tier.PROTOTYPE, Tier.STAGING)


@pytest.fixture
async def upstream(monkeypatch: pytest.MonkeyPatch) -> AsyncIterator[OpenAIServer]:
    """A server like OpenAI's, and an environment that names it."""
    async with openai_server(OpenAIFormat(model="gpt-5-mini", key=_KEY)) as server:
        monkeypatch.setenv("OPENAI_BASE_URL", server.base_url)
        monkeypatch.setenv("OPENAI_API_KEY", _KEY)
        monkeypatch.delenv("ANTHROPIC_API_KEY", raising=False)
        yield server


@dataclass(frozen=True, slots=True)
class _User:
    folder: Path
    tier: Tier

    async def run(self, *arguments: str) -> tuple[str, str]:
        """What `agentmesh ARGUMENTS` prints, which must succeed: its output, and the rest."""
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, *arguments, "--data-dir", str(self.folder)),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        out, told = (each.decode() for each in await process.communicate())
        assert process.returncode == 0, f"{out}{told}"
        return out, told


@pytest.fixture(params=_TIERS)
async def user(
    tmp_path: Path, request: pytest.FixtureRequest, upstream: OpenAIServer
) -> AsyncIterator[_User]:
    """Somebody at a terminal, beside a mesh that was started with the key."""
    async with running(tmp_path, request.param):
        yield _User(tmp_path, request.param)


async def test_ask_uses_the_model_of_the_key_and_says_so(
    user: _User, upstream: OpenAIServer
) -> None:
    """Which model answers and what it costs comes first; the key goes to the provider alone."""
    said, told = await user.run("ask", "How are you?")
    assert "Hello, world." in said
    assert (
        "OPENAI_BASE_URL is set: gpt-5-mini (openai) answers; each call costs money: $0.25 for a"
        " million tokens in, $2.00 out."
    ) in " ".join(f"{said} {told}".split())
    answer = json.loads((await user.run("ask", "How are you?", "--json"))[0])
    assert (answer["answer"], answer["model"]) == ("Hello, world.", "gpt-5-mini")
    assert answer["model_is_language_model"] is True
    assert answer["cost_micros"] > 0
    assert answer["provider_key"] == {
        "provider": "openai",
        "variable": "OPENAI_BASE_URL",
        "model": "gpt-5-mini",
        "called": True,
    }
    asked = upstream.http.requests[0]
    assert asked.headers["authorization"] == f"Bearer {_KEY}"
    assert "How are you?" in asked.content.decode()
    kept = [path for path in user.folder.rglob("*") if path.is_file() and _KEY in _content(path)]
    assert kept == []
    assert _showing(user.folder) == []


def _content(path: Path) -> str:
    return path.read_bytes().decode(errors="replace")


def _showing(folder: Path) -> list[str]:
    """The children of the mesh in whose environment others of this user can read the key."""
    state = read_state(folder)
    assert state is not None
    return [
        each.name
        for each in state.processes
        if each.pid not in (0, os.getpid())
        and _KEY.encode() in Path(f"/proc/{each.pid}/environ").read_bytes()
    ]


@pytest.mark.parametrize("tier", _TIERS)
async def test_a_model_without_a_price_starts_no_mesh(
    tmp_path: Path, tier: Tier, upstream: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The price book is named, and the line that it lacks."""
    monkeypatch.setenv("OPENAI_MODEL", "llama3.1:8b")
    with pytest.raises(MeshStartError) as caught:
        async with running(tmp_path, tier):
            pass
    assert "has no price for the model 'llama3.1:8b'" in str(caught.value)
    assert "services/governor/prices.yaml" in str(caught.value)
    assert (
        '"llama3.1:8b": {input: 0, output: 0, cached_input: 0, batch_input: 0, batch_output: 0}'
        in str(caught.value)
    )
