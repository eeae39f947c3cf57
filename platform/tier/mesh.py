"""A mesh that runs: its servers as children, its services, and the gateway in front."""

import asyncio
import os
from collections.abc import Coroutine, Mapping
from contextlib import AsyncExitStack
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path
from types import TracebackType
from typing import TYPE_CHECKING, Any, Final, Self, TextIO

from tier import binaries, parts, ports
from tier.backoff import PATIENT, RestartPolicy
from tier.child import Child, ChildSpec
from tier.data_dir import DataDir
from tier.embedded import Build, EmbeddedServices, Load
from tier.envoy_admin import admin_socket
from tier.events import Event, Phase, Progress, Reporter
from tier.failures import StartFailed
from tier.identities import GATEWAY
from tier.nats_child import nats_child
from tier.nursery import NURSERY, Nursery
from tier.option_checks import check
from tier.options import MeshOptions, Tier
from tier.ports import HOST
from tier.redis_child import redis_children
from tier.scheduling import take_turns
from tier.state import MeshState, ProcessRecord, start_ticks, write_state
from tier.topology import Stores, Topology
from tier.version import VERSION

if TYPE_CHECKING:  # at run time these wait until the servers have been started
    from meshkit.log import Log
    from tier.authority import Authority
    from tier.entrance import Entrance
    from tier.postgres_child import PostgresAccess

# How long the services may take until they serve through the gateway, and how often
# somebody who waits is told that this goes on.
_SERVING_WITHIN_SECONDS: Final = 120.0
_TELL_SECONDS: Final = 10.0
# How long calls in flight may go on when the mesh ends.
_DRAIN_SECONDS: Final = 10.0
_NO_AUTH: Final = (
    "There is no authentication: whoever reaches the loopback interface may name any tenant, and "
    "may do everything."
)
_NOT_FLUSHED: Final = (
    "NATS and Redis hand every write to the system but flush it to disk only now and then: a power "
    "cut may take what was accepted last; the death of a process does not."
)


async def start(options: MeshOptions, progress: Progress) -> "RunningMesh":
    """Starts a mesh in this process and event loop; only from the main thread.

    Returns when every service serves through the gateway. Where that does not
    come about, raises a MeshStartError and leaves nothing running.
    """
    _check_settings(options.config, os.environ)
    return await start_composed(options, progress, load=_load_prototype)


async def start_composed(options: MeshOptions, progress: Progress, *, load: Load) -> "RunningMesh":
    """`start`, with what builds the services of the prototype."""
    check(options)
    data_dir = DataDir(options.data_dir)
    data_dir.prepare()
    data_dir.lock()
    mesh = RunningMesh(options, data_dir, progress)
    try:
        await mesh.come_up(load)
    except BaseException as error:
        await asyncio.shield(mesh.stop())
        if isinstance(error, Exception):
            data_dir.prepare()  # who ran out of room may call it by any name
        raise
    return mesh


class RunningMesh:
    """A mesh of this process. An async context manager that stops it."""

    def __init__(self, options: MeshOptions, data_dir: DataDir, progress: Progress) -> None:
        """Made by `start` alone."""
        self._options: Final = options
        self._data_dir: Final = data_dir
        self._admin: Final = admin_socket(data_dir.run, GATEWAY)
        self._progress = progress
        self._report: Final = Reporter(self._tell)
        self._stack: Final = AsyncExitStack()
        self._children: list[Child] = []
        self._watchers: list[asyncio.Future[None]] = []
        self._log: Log | None = None
        self._log_file: TextIO | None = None
        self._topology: Topology | None = None
        self._authority: Authority | None = None
        self._entrance: Entrance | None = None
        self._state: MeshState | None = None

    @property
    def state(self) -> MeshState:
        """What is known of it."""
        if self._state is None:
            raise RuntimeError("the mesh is not up")
        return self._state

    @property
    def address(self) -> str:
        """Of the gateway: `host:port`."""
        return self.state.address

    async def come_up(self, load: Load) -> None:
        """Starts everything. Called once, by `start`."""
        options, data_dir = self._options, self._data_dir
        self._stack.callback(data_dir.unlock)
        self._stack.callback(data_dir.state_file.unlink, missing_ok=True)
        environ = dict(os.environ)
        if options.task_partitions is not None:
            environ["AGENTMESH_TASK_PARTITIONS"] = str(options.task_partitions)
        nats, redis, envoy = (binaries.find(each, environ) for each in binaries.ALL)
        port = ports.claim(options.port, "gateway")
        nats_port, monitor_port = ports.free_ports(2)
        # Never closed: loggers gather lines, and write the last ones when the process ends.
        self._log_file = data_dir.rotate("mesh").open("a", encoding="utf-8", buffering=1)
        self._report("mesh", Phase.STARTING, f"Starting the {options.tier} mesh on {data_dir.path}")
        nursery = None
        if options.tier is Tier.STAGING:
            take_turns()
            nursery = self._nursery()
        redises = redis_children(redis, data_dir, options)
        stored = [
            self._spawn(
                nats_child(nats, data_dir, nats_port, monitor_port, flushes=options.flushes)
            ),
            *map(self._spawn, redises),
        ]
        postgres = self._postgres()
        if postgres:
            stored.append(self._spawn(postgres[0]))
        # Imports cost a second of the processor's time: the servers use it to start.
        topology, gateway = (
            self._staging(environ, envoy, port, nursery, postgres[1] if postgres else None)
            if nursery
            else self._prototype(load, environ, envoy, port)
        )
        await asyncio.gather(*(each.ready() for each in stored))
        urls = [f"redis://{HOST}:{each.ports[0]}" for each in (redises[0], redises[-1])]
        starting = topology.start(Stores(f"nats://{HOST}:{nats_port}", *urls))
        await self._unless_a_child_dies(starting)
        await gateway.ready()
        await self._unless_a_child_dies(self._until_serving(f"{HOST}:{port}"))
        self._watch()
        self._state = self._describe(port)
        write_state(self._state)
        self._report("mesh", Phase.READY, f"The mesh is ready on {HOST}:{port}")

    async def wait(self) -> None:
        """Returns never; raises MeshStartError when a part failed that is not started again."""
        done, _ = await asyncio.wait(self._watchers, return_when=asyncio.FIRST_COMPLETED)
        for each in done:
            error = each.exception()
            if isinstance(error, StartFailed):
                raise error
            cause = f"a part failed: {error}" if error else "a part ended by itself"
            raise StartFailed("the mesh", cause, self._data_dir.log_file("mesh")) from error

    async def stop(self, progress: Progress | None = None) -> None:
        """Lets calls in flight finish, then ends everything. Once is enough."""
        if progress:
            self._progress = progress
            self._report.begin_again(self._tell)
        self._report("mesh", Phase.STOPPING, "Stopping the mesh")
        for each in self._watchers:
            each.cancel()
        if self._watchers:
            await asyncio.wait(self._watchers)
        if self._state and self._options.tier is Tier.STAGING:
            await self._drain()
        await self._stack.aclose()
        self._report("mesh", Phase.STOPPED, "The mesh has stopped")

    async def _drain(self) -> None:
        """Calls in flight finish while everything that they need is there."""
        from tier.gateway_drain import drain

        self._report("gateway", Phase.STOPPING, "The gateway takes no new calls")
        left = await drain(self._admin, _DRAIN_SECONDS)
        if left != 0:
            count = "an unknown number of" if left is None else left
            text = f"{count} calls did not finish within {_DRAIN_SECONDS:g} s and are cut off"
            self._report("gateway", Phase.STOPPING, text)

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        await self.stop()

    def _nursery(self) -> Nursery:
        """Imports what services need from the first moment on: nothing else takes as long."""
        modules = [f"services.{part.name}.main" for part in parts.PARTS]
        nursery = Nursery(modules, self._data_dir.rotate(NURSERY))
        self._stack.callback(nursery.stop)
        nursery.start()
        return nursery

    def _postgres(self) -> "tuple[ChildSpec, PostgresAccess] | None":
        if self._options.postgres is None or self._options.tier is not Tier.STAGING:
            return None
        from tier.postgres_child import postgres_child

        (port,) = ports.free_ports(1)
        return postgres_child(
            self._options.postgres, self._data_dir, binaries.repository_root(), port
        )

    def _prototype(
        self, load: Load, environ: Mapping[str, str], envoy: Path, port: int
    ) -> tuple[Topology, Child]:
        from meshkit import log
        from tier.gateway_child import gateway_child

        stream = self._log_file
        self._log = log.get("mesh", stream=stream, pretty=False)
        own_port, last_port = ports.free_ports(2)
        topology = self._topology = EmbeddedServices(
            data_dir=self._data_dir,
            port=own_port,
            last_port=last_port,
            config=self._options.config,
            environ=environ,
            load=load,
            log=lambda name: log.get(name, stream=stream, pretty=False),
        )
        repository = binaries.repository_root()
        gateway = self._spawn(
            gateway_child(envoy, self._data_dir, repository, port, topology.endpoints)
        )
        self._stack.push_async_callback(topology.stop)
        self._report("services", Phase.STARTING, "Starting the services")
        topology.configure()
        return topology, gateway

    def _staging(
        self,
        environ: Mapping[str, str],
        envoy: Path,
        port: int,
        nursery: Nursery,
        postgres: "PostgresAccess | None",
    ) -> tuple[Topology, Child]:
        from meshkit import log
        from tier.entrance import make_entrance, open_authority
        from tier.gateway_child import gateway_child
        from tier.mesh_certificates import MeshCertificates
        from tier.separate import SeparateServices

        options = self._options
        self._log = log.get("mesh", stream=self._log_file, pretty=False)
        certificates = None
        if options.auth or options.mtls:
            self._authority = open_authority(options.data_dir)
        if self._authority and options.mtls:
            certificates = MeshCertificates(self._authority, [each.name for each in parts.PARTS])
        topology = self._topology = SeparateServices(
            data_dir=self._data_dir,
            config=options.config,
            environ=environ,
            executors=options.executors,
            replicas=options.replicas,
            postgres=postgres,
            nursery=nursery,
            envoy=envoy,
            certificates=certificates,
            report=self._report,
            pids=lambda: [each.pid for each in self._records],
        )
        # Ends after the gateway: nothing enters any more then.
        self._stack.push_async_callback(topology.stop)
        self._report("services", Phase.STARTING, "Starting the services")
        topology.configure()
        if self._authority and options.auth:
            tls_port = ports.claim(options.tls_port, "the gateway's TLS", options.listen)
            settings = topology.settings.gateway
            self._entrance = make_entrance(options, tls_port, settings, self._authority)
            topology.let_in(self._entrance.access.bootstrap_keys)
        elif self._authority:
            self._authority.issue(GATEWAY)
        gateway = self._spawn(
            gateway_child(
                *(envoy, self._data_dir, binaries.repository_root(), port),
                topology.endpoints,
                guard=self._entrance.guard if self._entrance else None,
                upstreams=topology.upstreams,
            )
        )
        return topology, gateway

    def _spawn(self, spec: ChildSpec) -> Child:
        policy = PATIENT if self._options.tier is Tier.STAGING else RestartPolicy()
        child = Child(spec, self._report, policy)
        self._stack.push_async_callback(child.stop)
        child.spawn()
        self._children.append(child)
        return child

    async def _unless_a_child_dies(self, step: Coroutine[Any, Any, None]) -> None:
        """Takes a step of the start; StartFailed at once where a server of it dies meanwhile."""
        lives = (each.must_live() for each in self._children)
        steps = [asyncio.ensure_future(each) for each in (step, *lives)]
        try:
            done, _ = await asyncio.wait(steps, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for each in steps:
                each.cancel()
            await asyncio.wait(steps)
        for each in done:
            each.result()

    async def _until_serving(self, address: str) -> None:
        from tier.serving import until_serving

        left = dict.fromkeys(parts.SERVICES, "")
        waited_seconds = 0.0
        metadata = self._entrance.own_metadata if self._entrance else ()
        while left := await until_serving(address, tuple(left), _TELL_SECONDS, metadata):
            waited_seconds += _TELL_SECONDS
            service, why = next(iter(left.items()))
            if waited_seconds >= _SERVING_WITHIN_SECONDS:
                raise StartFailed(service, why, self._data_dir.log_file("mesh"))
            self._report("services", Phase.WAITING, f"Still waiting for {service}: {why}")
        self._report("services", Phase.READY, f"{len(parts.SERVICES)} services serve")

    def _watch(self) -> None:
        watches = [
            *(each.watch(self._refresh) for each in self._children),
            *self._require_topology().watches(self._refresh),
            *([self._authority.keep(self._report)] if self._authority else []),
            *([self._entrance.keep(self._data_dir, self._report)] if self._entrance else []),
        ]
        self._watchers = [asyncio.ensure_future(each) for each in watches]

    def _refresh(self) -> None:
        """Writes the state again after a child got another pid."""
        self._state = replace(self.state, processes=self._records)
        write_state(self._state)

    def _describe(self, port: int) -> MeshState:
        topology = self._require_topology()
        return MeshState(
            pid=os.getpid(),
            process_start_ticks=start_ticks(os.getpid()) or 0,
            tier=self._options.tier,
            version=VERSION,
            started=datetime.now(UTC),
            data_dir=self._data_dir.path,
            address=f"{HOST}:{port}",
            tls_address=self._entrance.tls_address if self._entrance else None,
            mtls=self._options.mtls,
            admin_address=self._admin,
            config=self._options.config,
            processes=self._records,
            notes=(
                *(() if self._options.auth else (_NO_AUTH,)),
                *topology.notes,
                *(() if self._options.flushes else (_NOT_FLUSHED,)),
            ),
            services=parts.SERVICES,
        )

    @property
    def _records(self) -> tuple[ProcessRecord, ...]:
        own = self._require_topology().records
        return (*own, *(each.record for each in self._children))

    def _require_topology(self) -> Topology:
        if self._topology is None:
            raise RuntimeError("the services come first")
        return self._topology

    def _tell(self, event: Event) -> None:
        self._progress(event)
        if self._log:
            unusual = event.phase in (Phase.DIED, Phase.RESTARTING, Phase.FAILED)
            tell = self._log.warning if unusual else self._log.info
            tell(f"{event.part}.{event.phase}", text=event.text, seconds=event.seconds)


def _load_prototype(path: Path | None, environ: Mapping[str, str]) -> Build:
    from tier import prototype

    return prototype.load(path, environ)


def _check_settings(path: Path | None, environ: Mapping[str, str]) -> None:
    """BadConfig where a setting is wrong, before anything is made or started."""
    # The defaults are right, and looking at them costs a start a part of a second.
    if path or any(name.startswith("AGENTMESH_") for name in environ):
        from tier.settings import load_settings

        load_settings(path, environ)
