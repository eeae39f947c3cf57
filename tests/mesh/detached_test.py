"""A mesh in the background with the real services: started, killed, and started again."""

import asyncio
import json
import os
import signal
import socket
import urllib.error
import urllib.request
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from meshtest.eventually import eventually
from tests.mesh.small_mesh import alive, children, pid_of
from tier import api
from tier.api import Event, MeshOptions, MeshState, Phase, Tier
from tier.parts import SERVICES
from tier.ports import HOST, free_ports
from tier.serving import who_serves_not


def _ignore(_event: Event) -> None:
    pass


@pytest.fixture
def options(tmp_path: Path) -> Iterator[MeshOptions]:
    """Options for a mesh that is ended after the test, if it runs."""
    chosen = MeshOptions(data_dir=tmp_path / "data", port=0)
    yield chosen
    api.stop_detached(chosen.data_dir, _ignore)


async def _post(state: MeshState, path: str, value: object) -> Any:
    return await asyncio.to_thread(_exchange, state, path, json.dumps(value).encode())


async def _get(state: MeshState, path: str) -> Any:
    return await asyncio.to_thread(_exchange, state, path, None)


def _exchange(state: MeshState, path: str, body: bytes | None) -> Any:
    with urllib.request.urlopen(f"http://{state.address}/v1/{path}", body, 30) as answer:
        return json.loads(answer.read())


async def _serves(state: MeshState) -> bool:
    return not await who_serves_not(state.address, SERVICES)


async def test_it_outlives_its_starter_and_ends_when_told(options: MeshOptions) -> None:
    """The mesh is ready when its start returns; ended, it leaves no process and no state."""
    told: list[Event] = []
    state = api.start_detached(options, told.append)
    assert (told[-1].part, told[-1].phase) == ("mesh", Phase.READY)
    assert state.pid != os.getpid()
    assert api.read_state(options.data_dir) == state
    assert await _serves(state)
    assert api.stop_detached(options.data_dir, _ignore)
    assert alive([state.pid, *children(state)]) == []
    assert api.read_state(options.data_dir) is None
    assert not api.stop_detached(options.data_dir, _ignore)


async def test_it_comes_up_where_nobody_reads_its_progress(options: MeshOptions) -> None:
    """A mesh does not end because what shows its progress is gone."""

    def gone(_event: Event) -> None:
        raise BrokenPipeError

    state = api.start_detached(options, gone)
    assert api.read_state(options.data_dir) == state
    assert await _serves(state)


async def test_killing_it_leaves_nothing_running(options: MeshOptions) -> None:
    """Kill -9 of the supervisor takes its children along, and the next start is not hindered."""
    state = api.start_detached(options, _ignore)
    pids = children(state)
    assert alive(pids) == pids
    os.kill(state.pid, signal.SIGKILL)
    await eventually(lambda: not alive(pids))
    assert api.read_state(options.data_dir) is None
    assert await _serves(api.start_detached(options, _ignore))


@pytest.mark.parametrize("how", [signal.SIGTERM, signal.SIGKILL])
async def test_nothing_is_lost_between_down_and_up(
    options: MeshOptions, how: signal.Signals
) -> None:
    """A task that was accepted is there after the mesh ended in order or was killed."""
    state = api.start_detached(options, _ignore)
    task = {"task": {"input": {"text": "What is 6 * 7?"}}, "requestId": "r1"}
    name = (await _post(state, "tenants/default/tasks", task))["task"]["name"]
    os.kill(state.pid, how)
    await eventually(lambda: not alive([state.pid]), timeout_seconds=20)
    state = api.start_detached(options, _ignore)

    async def done() -> str:
        found = (await _get(state, name))["task"]
        assert found["state"] == "TASK_STATE_SUCCEEDED"
        return str(found["output"]["text"])

    assert "42" in await eventually(done, timeout_seconds=30)


async def test_a_failed_start_is_told_by_its_class(options: MeshOptions) -> None:
    """What keeps the mesh from starting in its own process is raised here, in the same words."""
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind((HOST, port))
        other.listen()
        with pytest.raises(api.PortTaken, match=rf"^Port {port} \(gateway\) is taken by "):
            api.start_detached(replace(options, port=port), _ignore)
    assert api.read_state(options.data_dir) is None


@pytest.mark.parametrize("tier", list(Tier))
async def test_a_wrong_key_is_named(options: MeshOptions, tmp_path: Path, tier: Tier) -> None:
    """A configuration with an unknown key starts nothing, and the key is named."""
    config = tmp_path / "agentmesh.yaml"
    config.write_text("coordinator:\n  max_input_byte: 7\n")
    with pytest.raises(api.BadConfig) as caught:
        api.start_detached(replace(options, config=config, tier=tier), _ignore)
    assert str(caught.value) == (
        f"{config}: coordinator.max_input_byte is no setting; did you mean max_input_bytes?"
    )
    assert api.read_state(options.data_dir) is None


async def test_a_setting_counts(options: MeshOptions, tmp_path: Path) -> None:
    """What the configuration says is what the service does."""
    config = tmp_path / "agentmesh.yaml"
    config.write_text("coordinator:\n  max_input_bytes: 7\n")
    state = api.start_detached(replace(options, config=config), _ignore)
    with pytest.raises(urllib.error.HTTPError) as caught:
        await _post(state, "tenants/default/tasks", {"task": {"input": {"text": "too long"}}})
    assert caught.value.code == 400


async def test_a_second_one_is_refused(options: MeshOptions) -> None:
    """One data directory holds one mesh, whoever starts the second."""
    state = api.start_detached(options, _ignore)
    with pytest.raises(api.AlreadyRunning, match=rf"\(pid {state.pid}\)"):
        api.start_detached(options, _ignore)
    assert await _serves(state)


async def test_staging_runs_a_process_for_each_service(options: MeshOptions) -> None:
    """Each service is its own process; one that is killed comes back, and tasks are done."""
    staging = replace(options, tier=Tier.STAGING, executors=2, no_auth=True)
    state = api.start_detached(staging, _ignore)
    names = [each.name for each in state.processes]
    assert {"mesh", "governor", "reasoning", "memory", "tool", "coordinator"} < set(names)
    assert {"executor-1", "executor-2", "nats", "redis", "gateway"} < set(names)
    assert len({each.pid for each in state.processes}) == len(names)
    assert await _serves(state)
    before = pid_of(state, "tool")
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        now = api.read_state(options.data_dir)
        assert now is not None
        return pid_of(now, "tool") != before and await _serves(now)

    await eventually(back, timeout_seconds=30)
    task = {"task": {"input": {"text": "What is 6 * 7?"}}, "requestId": "r1"}
    name = (await _post(state, "tenants/default/tasks", task))["task"]["name"]

    async def done() -> bool:
        return (await _get(state, name))["task"]["state"] == "TASK_STATE_SUCCEEDED"

    await eventually(done, timeout_seconds=30)
