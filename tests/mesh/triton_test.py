"""Staging with Triton: it embeds and generates, and ends with the mesh."""

import asyncio
import json
import os
import signal
import urllib.error
import urllib.request
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path
from typing import Any

import psutil
import pytest

from meshtest.eventually import eventually
from tests.mesh.small_mesh import alive, children, pid_of
from tier import api
from tier.api import MeshOptions, MeshState, ProcessStatus, Tier

_PATIENCE_SECONDS = 60.0


@pytest.fixture(scope="module")
def mesh(tmp_path_factory: pytest.TempPathFactory) -> Iterator[MeshState]:
    """A staging mesh on a machine that has Triton, started once for all tests here."""
    if not os.environ.get("TRITON_SERVER"):
        pytest.skip("TRITON_SERVER names no Triton")
    data_dir = tmp_path_factory.mktemp("mesh")
    options = MeshOptions(tier=Tier.STAGING, data_dir=data_dir, port=0, no_auth=True)
    yield api.start_detached(options, lambda _: None)
    api.stop_detached(data_dir, lambda _: None)


@pytest.fixture
def mesh_of_two(tmp_path: Path) -> Iterator[MeshState]:
    """The same with two Tritons, as its configuration says."""
    if not os.environ.get("TRITON_SERVER"):
        pytest.skip("TRITON_SERVER names no Triton")
    config = tmp_path / "mesh.yaml"
    config.write_text("triton: {servers: 2, device: cpu}\n", "utf-8")
    data_dir = tmp_path / "data"
    options = MeshOptions(tier=Tier.STAGING, data_dir=data_dir, port=0, config=config, no_auth=True)
    yield api.start_detached(options, lambda _: None)
    api.stop_detached(data_dir, lambda _: None)


def _ask(state: MeshState, path: str, question: object = None) -> Any:
    body = None if question is None else json.dumps(question).encode()
    with urllib.request.urlopen(f"http://{state.address}/v1/models{path}", body, 60) as answer:
        return json.loads(answer.read())


async def _embedded(state: MeshState) -> int:
    """The length of a vector."""
    question = {"texts": ["How do rate limits work?"]}
    answer = await asyncio.to_thread(_ask, state, ":embed", question)
    return len(answer["embeddings"][0]["values"])


async def _generated(state: MeshState) -> str:
    """What the text model of Triton says."""
    said = {"role": "ROLE_USER", "parts": [{"text": "Who are you?"}]}
    question = {"model": "text-generation", "messages": [said]}
    answer = await asyncio.to_thread(_ask, state, ":generate", question)
    return answer["message"]["parts"][0]["text"]


async def _models(state: MeshState) -> dict[str, Any]:
    """Those that are listed, by name."""
    listed = await asyncio.to_thread(_ask, state, "")
    return {model["name"]: model for model in listed["models"]}


async def _well(state: MeshState, *names: str) -> dict[str, ProcessStatus]:
    """How each process is, once these are well."""
    shown = {each.name: each for each in await api.status(state)}
    for name in names:
        assert shown[name].healthy, shown[name]
    return shown


async def test_several_are_called_through_an_envoy(mesh_of_two: MeshState) -> None:
    """When one of them dies, the other does its work until it is back."""
    names = ("triton-1", "triton-2", "load-reporter", "models-gateway")
    await eventually(lambda: _well(mesh_of_two, *names), _PATIENCE_SECONDS)
    os.kill(pid_of(mesh_of_two, "triton-1"), signal.SIGKILL)

    async def other_does_its_work() -> bool:
        try:
            for _ in range(5):
                assert (await _generated(mesh_of_two)).startswith("I am")
                assert await _embedded(mesh_of_two) == 384
        except urllib.error.HTTPError:
            # It went to the dead one, before Envoy knew.
            return False
        return True

    await eventually(other_does_its_work, _PATIENCE_SECONDS)


async def test_it_generates_and_lists_what_it_has(mesh: MeshState) -> None:
    """The text model is called by its name; the slot for code is listed, and empty."""
    assert (await _generated(mesh)).startswith("I am Agentmesh's offline model")
    models = await _models(mesh)
    assert models["text-generation"]["provider"] == "triton"

    async def is_ready() -> bool:
        return (await _models(mesh))["text-generation"]["state"] == "MODEL_STATE_READY"

    await eventually(is_ready, _PATIENCE_SECONDS)
    assert models["code-embedder"]["state"] == "MODEL_STATE_NOT_CONFIGURED"
    assert "Not configured" in models["code-embedder"]["description"]


async def test_it_embeds_and_ends_with_the_mesh(mesh: MeshState) -> None:
    """Embeddings come from Triton, which is healthy, and no process of it outlives the mesh, which
    is killed: this is its last test.
    """
    shown = await eventually(lambda: _well(mesh, "triton"), _PATIENCE_SECONDS)
    assert shown["triton"].detail == "models loaded"
    assert not any("Triton" in note for note in mesh.notes)
    assert await _embedded(mesh) == 384
    names: dict[int, str] = {}
    for each in psutil.Process(pid_of(mesh, "triton")).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names[each.pid] = each.name()
    pids = [*children(mesh), *names]
    # A model's process that cannot look for its server itself ends all the same.
    models = [pid for pid, name in names.items() if "stub" in name]
    assert len(models) == 2
    for model in models:
        os.kill(model, signal.SIGSTOP)
    os.kill(mesh.pid, signal.SIGKILL)

    def all_gone() -> bool:
        left = [names.get(pid, pid) for pid in alive(pids)]
        assert not left, f"still there: {left}"
        return True

    await eventually(all_gone, _PATIENCE_SECONDS)
