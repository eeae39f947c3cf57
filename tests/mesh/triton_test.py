"""Staging with Triton: it serves the embeddings, and ends with the mesh."""

import asyncio
import json
import os
import signal
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
from tier.api import MeshOptions, MeshState, Tier


@pytest.fixture
def mesh(tmp_path: Path) -> Iterator[MeshState]:
    """A staging mesh on a machine that has Triton."""
    if not os.environ.get("TRITON_SERVER"):
        pytest.skip("TRITON_SERVER names no Triton")
    options = MeshOptions(tier=Tier.STAGING, data_dir=tmp_path, port=0)
    yield api.start_detached(options, lambda _: None)
    api.stop_detached(tmp_path, lambda _: None)


def _embed(state: MeshState) -> Any:
    body = json.dumps({"texts": ["How do rate limits work?"]}).encode()
    with urllib.request.urlopen(f"http://{state.address}/v1/models:embed", body, 60) as answer:
        return json.loads(answer.read())


async def test_it_embeds_and_ends_with_the_mesh(mesh: MeshState) -> None:
    """Embeddings come from Triton, which is healthy, and no process of it outlives the mesh."""
    shown = {each.name: each for each in await api.status(mesh)}
    assert shown["triton"].healthy
    assert shown["triton"].detail == "models loaded"
    assert not any("Triton" in note for note in mesh.notes)
    answer = await asyncio.to_thread(_embed, mesh)
    assert len(answer["embeddings"][0]["values"]) == 384
    names: dict[int, str] = {}
    for each in psutil.Process(pid_of(mesh, "triton")).children(recursive=True):
        with suppress(psutil.NoSuchProcess):
            names[each.pid] = each.name()
    pids = [*children(mesh), *names]
    # A model's process that cannot look for its server itself ends all the same.
    (model,) = (pid for pid, name in names.items() if "stub" in name)
    os.kill(model, signal.SIGSTOP)
    os.kill(mesh.pid, signal.SIGKILL)

    def all_gone() -> bool:
        left = [names.get(pid, pid) for pid in alive(pids)]
        assert not left, f"still there: {left}"
        return True

    await eventually(all_gone, timeout_seconds=60)
