"""A mesh in the background with the real services: started, killed, and started again."""

import asyncio
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from meshtest.eventually import eventually
from tests.mesh.small_mesh import alive, children, ignore, listens, pid_of
from tier import api
from tier.api import Event, MeshOptions, MeshState, Phase, Tier
from tier.parts import SERVICES
from tier.ports import HOST, free_ports
from tier.serving import who_serves_not

_PATIENCE_SECONDS = 60.0


@pytest.fixture
def options(tmp_path: Path) -> Iterator[MeshOptions]:
    """Options for a mesh that is ended after the test, if it runs."""
    chosen = MeshOptions(data_dir=tmp_path / "data", port=0)
    yield chosen
    api.stop_detached(chosen.data_dir, ignore)


@dataclass(frozen=True, slots=True)
class _Background:
    """A mesh that somebody started."""

    options: MeshOptions
    state: MeshState
    told: Sequence[Event]


@pytest.fixture(scope="module")
def background(tmp_path_factory: pytest.TempPathFactory) -> Iterator[_Background]:
    """It runs, by a configuration, for all tests that only look at it."""
    folder = tmp_path_factory.mktemp("background")
    config = folder / "agentmesh.yaml"
    config.write_text("coordinator:\n  max_input_bytes: 7\n")
    options = MeshOptions(data_dir=folder / "data", port=0, config=config)
    told: list[Event] = []
    yield _Background(options, api.start_detached(options, told.append), told)
    api.stop_detached(options.data_dir, ignore)


async def _post(state: MeshState, path: str, value: object) -> Any:
    return await asyncio.to_thread(_exchange, state, path, json.dumps(value).encode())


async def _get(state: MeshState, path: str) -> Any:
    return await asyncio.to_thread(_exchange, state, path, None)


def _exchange(state: MeshState, path: str, body: bytes | None) -> Any:
    with urllib.request.urlopen(f"http://{state.address}/v1/{path}", body, 30) as answer:
        return json.loads(answer.read())


async def _serves(state: MeshState) -> bool:
    return not await who_serves_not(state.address, SERVICES)


async def test_it_outlives_its_starter(background: _Background) -> None:
    """The mesh is ready when its start returns, in a process of its own."""
    state = background.state
    assert (background.told[-1].part, background.told[-1].phase) == ("mesh", Phase.READY)
    assert state.pid != os.getpid()
    assert api.read_state(background.options.data_dir) == state
    assert await _serves(state)


async def test_a_setting_counts(background: _Background) -> None:
    """What the configuration says is what the service does."""
    task = {"task": {"input": {"text": "too long"}}}
    with pytest.raises(urllib.error.HTTPError) as caught:
        await _post(background.state, "tenants/default/tasks", task)
    assert caught.value.code == 400


async def test_a_second_one_is_refused(background: _Background) -> None:
    """One data directory holds one mesh, whoever starts the second."""
    with pytest.raises(api.AlreadyRunning, match=rf"\(pid {background.state.pid}\)"):
        api.start_detached(background.options, ignore)
    assert await _serves(background.state)


async def test_nothing_is_lost_between_down_and_up(options: MeshOptions) -> None:
    """A task that was accepted is there after the mesh ended in order, and after it was killed.

    Neither leaves a process running, or hinders the next start. A mesh comes up also where what
    shows its progress is gone.
    """

    def gone(_event: Event) -> None:
        raise BrokenPipeError

    state = api.start_detached(options, gone)
    before = await _submitted(state, "before the end")
    pids = [state.pid, *children(state)]
    assert alive(pids) == pids
    assert api.stop_detached(options.data_dir, ignore)
    assert alive(pids) == []
    assert api.read_state(options.data_dir) is None
    assert not api.stop_detached(options.data_dir, ignore)

    state = api.start_detached(options, ignore)
    await _is_done(state, before)
    after = await _submitted(state, "before the death")
    pids = [state.pid, *children(state)]
    os.kill(state.pid, signal.SIGKILL)
    await eventually(lambda: not alive(pids), _PATIENCE_SECONDS)
    assert api.read_state(options.data_dir) is None

    state = api.start_detached(options, ignore)
    await _is_done(state, before)
    await _is_done(state, after)


async def _submitted(state: MeshState, request_id: str) -> str:
    """The name of a task that was accepted."""
    task = {"task": {"input": {"text": "What is 6 * 7?"}}, "requestId": request_id}
    return str((await _post(state, "tenants/default/tasks", task))["task"]["name"])


async def _is_done(state: MeshState, name: str) -> None:
    """Returns when it has succeeded."""

    async def done() -> str:
        found = (await _get(state, name))["task"]
        assert found["state"] == "TASK_STATE_SUCCEEDED"
        return str(found["output"]["text"])

    assert "42" in await eventually(done, _PATIENCE_SECONDS)


async def test_a_failed_start_is_told_by_its_class(options: MeshOptions) -> None:
    """What keeps the mesh from starting in its own process is raised here, in the same words."""
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind((HOST, port))
        other.listen()
        with pytest.raises(api.PortTaken, match=rf"^Port {port} \(gateway\) is taken by "):
            api.start_detached(replace(options, port=port), ignore)
    assert api.read_state(options.data_dir) is None


@pytest.mark.parametrize("tier", list(Tier))
async def test_a_wrong_key_is_named(options: MeshOptions, tmp_path: Path, tier: Tier) -> None:
    """A configuration with an unknown key starts nothing, and the key is named."""
    config = tmp_path / "agentmesh.yaml"
    config.write_text("coordinator:\n  max_input_byte: 7\n")
    with pytest.raises(api.BadConfig) as caught:
        api.start_detached(replace(options, config=config, tier=tier), ignore)
    assert str(caught.value) == (
        f"{config}: coordinator.max_input_byte is no setting; did you mean max_input_bytes?"
    )
    assert api.read_state(options.data_dir) is None


async def test_staging_runs_a_process_for_each_service(options: MeshOptions) -> None:
    """Each service is its own process; one that is killed comes back, and tasks are done.

    Without credentials everybody on this machine may call, nobody else, and status says so.
    """
    staging = replace(options, tier=Tier.STAGING, executors=2, no_auth=True)
    state = api.start_detached(staging, ignore)
    names = [each.name for each in state.processes]
    assert {"mesh", "governor", "reasoning", "memory", "tool", "coordinator"} < set(names)
    assert {"executor-1", "executor-2", "nats", "redis", "gateway"} < set(names)
    assert len({each.pid for each in state.processes}) == len(names)
    assert await _serves(state)
    assert state.tls_address is None
    assert (
        "There is no authentication: whoever reaches the loopback interface may name any tenant,"
        " and may do everything."
    ) in state.notes
    names.remove("mesh")
    assert {address for name in names for address in listens(state, name)} == {"127.0.0.1"}
    before = pid_of(state, "tool")
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        now = api.read_state(options.data_dir)
        assert now is not None
        return pid_of(now, "tool") != before and await _serves(now)

    await eventually(back, _PATIENCE_SECONDS)
    await _is_done(state, await _submitted(state, "r1"))
