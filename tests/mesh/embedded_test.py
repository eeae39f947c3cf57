"""A mesh inside a process: it starts, heals, refuses and ends."""

import asyncio
import os
import signal
import socket
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
import pytest_asyncio
from grpc_health.v1.health_pb2 import HealthCheckRequest, HealthCheckResponse
from grpc_health.v1.health_pb2_grpc import HealthStub

from meshkit.service import Service
from meshtest.eventually import eventually
from tests.gateway.stand_in import StandInCoordinator, registrations
from tests.mesh.small_mesh import alive, children, pid_of, stand_ins, with_jobs
from tier import binaries
from tier.embedded import Build, ResourcesOf
from tier.events import Event, Phase
from tier.failures import (
    AlreadyRunning,
    BadConfig,
    BadOptions,
    BinaryMissing,
    DataDirNotWritable,
    MeshStartError,
    PortTaken,
    StartFailed,
)
from tier.mesh import RunningMesh, start, start_composed
from tier.options import MeshOptions, Tier
from tier.parts import SERVICES
from tier.ports import HOST, free_ports
from tier.serving import who_serves_not
from tier.state import read_state
from tier.status import status

_PATIENCE_SECONDS = 60.0


def _ignore(_event: Event) -> None:
    pass


@pytest_asyncio.fixture
async def mesh(tmp_path: Path) -> AsyncIterator[RunningMesh]:
    """A running mesh on free ports."""
    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    async with await start_composed(options, _ignore, load=stand_ins) as running:
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
    async with await start_composed(options, _ignore, load=load) as mesh:
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

    mesh = await start_composed(MeshOptions(data_dir=tmp_path, port=0), _ignore, load=load)
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
    async with await start_composed(options, _ignore, load=load) as mesh:
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
        mesh = await start_composed(options, _ignore, load=stand_ins)
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


async def _refused(options: MeshOptions, load: object = stand_ins) -> MeshStartError:
    with pytest.raises(MeshStartError) as caught:
        await start_composed(options, _ignore, load=load)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """Who has the port is named, with what to do; nothing is started."""
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind((HOST, port))
        other.listen()
        error = await _refused(MeshOptions(data_dir=tmp_path, port=port))
    assert isinstance(error, PortTaken)
    assert str(error).startswith(f"Port {port} (gateway) is taken by ")
    assert str(error).endswith(f"(pid {os.getpid()}): end that, or choose another with --port.")
    assert read_state(tmp_path) is None


async def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """A data directory that cannot be written to is refused before anything starts."""
    (tmp_path / "file").touch()
    error = await _refused(MeshOptions(data_dir=tmp_path / "file", port=0))
    assert isinstance(error, DataDirNotWritable)


@pytest.mark.parametrize(
    ("variable", "title"), [("NATS_SERVER", "NATS"), ("REDIS_SERVER", "Redis"), ("ENVOY", "Envoy")]
)
async def test_a_missing_binary_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, title: str
) -> None:
    """The server that is missing is named, with where it was looked for."""
    monkeypatch.setenv(variable, "/nowhere/at/all")
    error = await _refused(MeshOptions(data_dir=tmp_path, port=0))
    assert isinstance(error, BinaryMissing)
    assert str(error) == (
        f"The {title} binary is missing ({variable} says /nowhere/at/all): start with ./agentmesh, "
        f"which brings it, or set {variable} to its path."
    )


async def test_a_wrong_setting_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is none, in the file or the environment, is named; nothing was begun."""
    told: list[Event] = []
    config = tmp_path / "mesh.yaml"
    config.write_text("tool:\n  colour: red\n")
    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    with pytest.raises(BadConfig, match=r"mesh\.yaml: tool\.colour is no setting"):
        await start(replace(options, config=config), told.append)
    monkeypatch.setenv("AGENTMESH_TOOL__COLOUR", "red")
    with pytest.raises(BadConfig, match="environment: AGENTMESH_TOOL__COLOUR is no setting"):
        await start(options, told.append)
    assert told == []
    assert not options.data_dir.exists()


async def test_one_folder_holds_one_mesh(mesh: RunningMesh) -> None:
    """A second start on the same data directory is refused, and the first mesh goes on."""
    error = await _refused(MeshOptions(data_dir=mesh.state.data_dir, port=0))
    assert isinstance(error, AlreadyRunning)
    assert f"(pid {os.getpid()})" in str(error)
    assert await who_serves_not(mesh.address, SERVICES) == {}


async def test_services_that_cannot_be_made_leave_nothing_running(tmp_path: Path) -> None:
    """When the services fail, the servers that were started for them are ended."""
    told: list[Event] = []

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        raise BadConfig("agentmesh.yaml: tool.colour is no setting")

    options = MeshOptions(data_dir=tmp_path, port=0)
    with pytest.raises(BadConfig, match=r"tool\.colour is no setting"):
        await start_composed(options, told.append, load=load)
    steps = [(each.part, each.phase) for each in told]
    assert ("nats", Phase.STARTING) in steps
    for part in ("nats", "redis", "gateway", "mesh"):
        assert (part, Phase.STOPPED) in steps
    # The folder is free again.
    await (await start_composed(options, _ignore, load=stand_ins)).stop()


async def test_a_server_that_ends_at_once_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binary that does not run here fails the start with what it said."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'wrong kind of machine' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(broken))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0))
    assert isinstance(error, StartFailed)
    assert str(error) == (
        "Failed to start Redis: it ended (exit code 3) after saying: wrong kind of machine. "
        f"See {tmp_path / 'data/logs/redis.log'}."
    )


async def test_a_server_that_ends_while_the_services_start_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start does not wait for services that may never come up without it."""
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho 'wrong kind of machine' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("ENVOY", str(broken))

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        async def build(_: ResourcesOf) -> Sequence[Service]:
            await asyncio.Event().wait()
            return []

        return build

    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    with pytest.raises(
        StartFailed, match=r"^Failed to start Envoy: it ended \(exit code 3\) after"
    ):
        await asyncio.wait_for(start_composed(options, _ignore, load=load), _PATIENCE_SECONDS)


async def test_staging_wants_every_write_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NATS that does not flush each write is not good enough for staging."""
    careless = tmp_path / "nats-server"
    real = binaries.find(binaries.NATS, os.environ)
    careless.write_text(f'#!/bin/sh\nsed -i /sync_interval/d "$2"\nexec {real} "$@"\n')
    careless.chmod(0o755)
    monkeypatch.setenv("NATS_SERVER", str(careless))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0, tier=Tier.STAGING))
    assert str(error) == (
        "Failed to start NATS: it does not flush every write to disk; 2.10 or newer can."
    )


async def test_staging_wants_every_write_of_redis_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of calls that were begun survives a power cut, as the log does."""
    careless = tmp_path / "redis-server"
    real = binaries.find(binaries.REDIS, os.environ)
    careless.write_text(f'#!/bin/sh\nexec {real} "$@" --appendfsync everysec\n')
    careless.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(careless))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0, tier=Tier.STAGING))
    assert str(error) == "Failed to start Redis: it does not flush every write to disk."


@pytest.mark.parametrize(
    ("port", "executors", "text"),
    [
        (65300, 1, "The port 65300 is none: choose 1 to 65172, or 0 for a free one."),
        (0, 0, "0 executors run nothing: choose 1 or more."),
        (
            0,
            2,
            "The prototype runs one executor in its one process: "
            "choose --tier staging for more, or 1 executor.",
        ),
    ],
)
async def test_senseless_options_are_told(
    tmp_path: Path, port: int, executors: int, text: str
) -> None:
    """Options that cannot be followed are refused with what would do."""
    error = await _refused(MeshOptions(data_dir=tmp_path, port=port, executors=executors))
    assert isinstance(error, BadOptions)
    assert str(error) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            MeshOptions(listen="0.0.0.0"),
            "The prototype has neither TLS nor credentials and does not listen on 0.0.0.0: "
            "choose --tier staging, which has both, or leave --listen out.",
        ),
        (
            MeshOptions(tier=Tier.STAGING, no_auth=True, listen="::"),
            "Without credentials nothing listens on ::, beyond this machine: "
            "leave --no-auth out, or --listen.",
        ),
        (
            MeshOptions(tier=Tier.STAGING, listen="example.org"),
            "example.org is no address to listen on: "
            "choose one of this machine's, such as 192.0.2.7, or 0.0.0.0 for all.",
        ),
    ],
)
async def test_nothing_unprotected_listens_beyond_this_machine(
    tmp_path: Path, options: MeshOptions, text: str
) -> None:
    """It takes TLS and credentials to do so; the refusal says what to do."""
    error = await _refused(replace(options, data_dir=tmp_path, port=0))
    assert isinstance(error, BadOptions)
    assert str(error) == text


async def test_a_named_port_is_used(tmp_path: Path) -> None:
    """The gateway listens where it is told to."""
    (port,) = free_ports(1)
    options = MeshOptions(data_dir=tmp_path, port=port)
    async with await start_composed(options, _ignore, load=stand_ins) as mesh:
        assert mesh.address == f"{HOST}:{port}"
