"""A mesh inside a process: it starts, heals and ends."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Mapping, Sequence
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from meshkit.service import Service
from meshtest.eventually import eventually
from tests.gateway.stand_in import StandInCoordinator, registrations
from tests.mesh.small_mesh import alive, children, ignore, pid_of, stand_ins, with_jobs
from tier.embedded import Build, ResourcesOf
from tier.events import Event, Phase
from tier.failures import (
    StartFailed,
)
from tier.mesh import RunningMesh, start_composed
from tier.options import MeshOptions
from tier.parts import SERVICES
from tier.ports import HOST, free_ports
from tier.serving import who_serves_not
from tier.state import read_state
from tier.status import status

_PATIENCE_SECONDS = 60.0


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[RunningMesh]:
    """A running mesh on free ports."""
    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    async with await start_composed(options, ignore, load=stand_ins) as running:
        yield running


async def test_it_is_ready_when_it_says_so(mesh: RunningMesh, tmp_path: Path) -> None:
    """When `start` returns every service serves, and the state says where."""
    assert await who_serves_not(mesh.address, SERVICES) == {}
    assert read_state(tmp_path / "data") == mesh.state
    assert mesh.state.admin_address == tmp_path / "data" / "run" / "gateway-admin.sock"
    assert [each.name for each in mesh.state.processes] == ["services", "nats", "redis", "gateway"]


async def test_a_job_may_end_when_its_work_is_done(tmp_path: Path) -> None:
    """The mesh goes on without it, and ends with a job that fails."""
    ended, fail = asyncio.Event(), asyncio.Event()

    async def short() -> None:
        ended.set()

    async def failing() -> None:
        await fail.wait()
        raise RuntimeError("no more")

    options = MeshOptions(data_dir=tmp_path, port=0)
    load = with_jobs(short, failing)
    async with await start_composed(options, ignore, load=load) as mesh:
        waiting = asyncio.create_task(mesh.wait())
        await ended.wait()
        assert await who_serves_not(mesh.address, SERVICES) == {}
        assert not waiting.done()
        fail.set()
        with pytest.raises(StartFailed, match="no more"):
            await asyncio.wait_for(waiting, _PATIENCE_SECONDS)


async def test_a_job_that_ends_still_reaches_the_governor(tmp_path: Path) -> None:
    """What was spent until then can be settled, though the mesh takes no calls any more."""
    answers: list[HealthCheckResponse] = []

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        async def build(resources_of: ResourcesOf) -> Sequence[Service]:
            governor: Any = HealthStub(resources_of("reasoning").channels.get("governor"))

            async def settle_at_the_end() -> None:
                try:
                    await asyncio.Event().wait()
                finally:
                    asked = HealthCheckRequest(service="agentmesh.governor.v1.CostGovernorService")
                    answers.append(await governor.Check(asked, timeout=30))

            return [Service(registrations(StandInCoordinator("prototype")), [settle_at_the_end])]

        return build

    mesh = await start_composed(MeshOptions(data_dir=tmp_path, port=0), ignore, load=load)
    await mesh.stop()
    assert answers == [HealthCheckResponse(status=HealthCheckResponse.SERVING)]


async def test_who_makes_calls_ends_before_what_it_calls(tmp_path: Path) -> None:
    """At the end of an executor every service still answers it."""
    at_the_end: list[object] = []
    addresses: list[str] = []

    async def caller() -> None:
        try:
            await asyncio.Event().wait()
        finally:
            at_the_end.append(await who_serves_not(addresses[0], SERVICES))

    options = MeshOptions(data_dir=tmp_path, port=0)
    load = with_jobs(callers=[caller])
    async with await start_composed(options, ignore, load=load) as mesh:
        addresses.append(mesh.address)
    assert at_the_end == [{}]


async def test_each_step_of_a_start_and_a_stop_is_told(tmp_path: Path) -> None:
    """Whoever waits sees what happens, the whole mesh first and last."""
    started: list[Event] = []
    stopped: list[Event] = []
    options = MeshOptions(data_dir=tmp_path, port=0)
    mesh = await start_composed(options, started.append, load=stand_ins)
    await mesh.stop(stopped.append)
    steps = [(each.part, each.phase) for each in started]
    assert steps[0] == ("mesh", Phase.STARTING)
    assert steps[-1] == ("mesh", Phase.READY)
    for part in ("nats", "redis", "gateway", "services"):
        assert steps.index((part, Phase.STARTING)) < steps.index((part, Phase.READY))
    assert [each.seconds for each in started] == sorted(each.seconds for each in started)
    assert [(each.part, each.phase) for each in stopped] == [
        ("mesh", Phase.STOPPING),
        ("gateway", Phase.STOPPED),
        ("redis", Phase.STOPPED),
        ("nats", Phase.STOPPED),
        ("mesh", Phase.STOPPED),
    ]


async def test_a_stop_leaves_nothing_running(tmp_path: Path) -> None:
    """After `stop` no child is left, no state, and the folder is free for the next mesh."""
    options = MeshOptions(data_dir=tmp_path, port=0)
    for _ in range(2):
        mesh = await start_composed(options, ignore, load=stand_ins)
        pids = children(mesh.state)
        assert alive(pids) == pids
        await mesh.stop()
        assert alive(pids) == []
        assert read_state(tmp_path) is None


@pytest.mark.parametrize("name", ["nats", "redis", "gateway"])
async def test_what_dies_is_started_again(mesh: RunningMesh, name: str) -> None:
    """A killed server is back by itself, with another pid in the state, and the mesh serves;
    the socket at which a killed Envoy was asked is the next one's.
    """
    before = pid_of(mesh.state, name)
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: pid_of(mesh.state, name) != before, _PATIENCE_SECONDS)

    async def well() -> bool:
        return all(each.healthy for each in await status(mesh.state))

    await eventually(well, _PATIENCE_SECONDS)
    assert read_state(mesh.state.data_dir) == mesh.state


async def test_the_status_shows_each_process(mesh: RunningMesh) -> None:
    """Every process is healthy, and says what it uses and which version it is."""

    async def all_are_well() -> Mapping[str, Any]:
        shown = {each.name: each for each in await status(mesh.state)}
        assert all(each.healthy for each in shown.values()), shown
        return shown

    shown = await eventually(all_are_well, _PATIENCE_SECONDS)
    assert set(shown) == {"services", "nats", "redis", "gateway"}
    assert shown["services"].detail == f"{len(SERVICES)} services serve"
    assert all(each.memory_mb > 1 and each.version for each in shown.values())
    assert shown["gateway"].listens == (mesh.address,)
    for name in ("nats", "redis"):
        assert set(shown[name].listens) == {f"{HOST}:{port}" for port in shown[name].ports}


async def test_the_status_shows_what_each_process_is_asked(mesh: RunningMesh) -> None:
    """Calls a second, as Envoy and the servers count them."""

    async def call() -> None:
        while True:
            await who_serves_not(mesh.address, SERVICES)

    calling = asyncio.create_task(call())

    async def are_counted() -> bool:
        shown = {each.name: each for each in await status(mesh.state)}
        for name in ("gateway", "services"):
            assert (shown[name].calls_per_second or 0) > 0, name
        for name in ("nats", "redis"):
            assert shown[name].calls_per_second is not None, name
        return True

    await eventually(are_counted, _PATIENCE_SECONDS)
    calling.cancel()


async def test_the_status_shows_what_is_down(mesh: RunningMesh) -> None:
    """A process that hangs is not healthy, and the line says so."""
    os.kill(pid_of(mesh.state, "redis"), signal.SIGSTOP)
    try:
        shown = {each.name: each for each in await status(mesh.state)}
    finally:
        os.kill(pid_of(mesh.state, "redis"), signal.SIGCONT)
    assert not shown["redis"].healthy
    assert shown["redis"].detail.startswith("does not answer")
    assert shown["nats"].healthy


async def test_a_named_port_is_used(tmp_path: Path) -> None:
    """The gateway listens where it is told to."""
    (port,) = free_ports(1)
    options = MeshOptions(data_dir=tmp_path, port=port)
    async with await start_composed(options, ignore, load=stand_ins) as mesh:
        assert mesh.address == f"{HOST}:{port}"
