"""The staging tier's topology: a process a service, more of some, and executors, as asked for."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from tier import binaries, parts, ports, scaling
from tier.backoff import PATIENT
from tier.child import Child, ChildSpec
from tier.control import ControlSocket, Scaled
from tier.crossing import Crossing
from tier.data_dir import DataDir
from tier.directory import Directory
from tier.events import Reporter
from tier.gateway_config import DIRECTORY
from tier.mesh_certificates import MeshCertificates
from tier.nursery import Nursery
from tier.ports import HOST
from tier.postgres_child import PostgresAccess
from tier.scale_file import ScaleFile
from tier.secret_variables import secrets_of
from tier.service_child import service_child
from tier.state import ProcessRecord
from tier.topology import Stores
from tier.triton_child import find_triton
from tier.triton_servers import TritonServers
from tier.upstreams import Upstreams
from tier.version import VERSION
from tier.wakefulness import keep_awake_while_busy
from tier.watchers import Watchers

if TYPE_CHECKING:  # takes its time to import
    from tier.settings import Settings

_EXECUTOR: Final = "executor"
_GOVERNOR: Final = "governor"
_COORDINATOR: Final = "coordinator"
# What keeps no files, of which there may be several; coordinators share a database or are alone.
_REPLICATED: Final = ("governor", "reasoning", "tool")
# Where PostgreSQL is named that these keep what they copy in.
_DATABASES: Final = ((_COORDINATOR, "read_model"), (_GOVERNOR, "ledger_database"))
# In requests a second. Each request of such a tier asks a governor.
_SHARED_LIMITS_UP_TO: Final = 100
# What these keep in Redis is opened again where it is lost, or soon out of date.
_LOSING: Final = ("governor", "reasoning")
# Those that others call.
_CALLED: Final = tuple(
    each.name for each in parts.PARTS if any(each.name in other.calls for other in parts.PARTS)
)
# How long calls may go on that an instance has when it is to leave.
_DRAIN_SECONDS: Final = 30.0
_PLAIN: Final = "Processes of the mesh talk in plain text, and believe each other who they are."
_NO_POSTGRES: Final = (
    "There is no PostgreSQL: read model and ledger are kept in SQLite, for one coordinator alone. "
    "`agentmesh doctor` says how to get one."
)
_NO_TRITON: Final = (
    "The reasoning process computes embeddings itself: TRITON_SERVER names no Triton to do it."
)


class SeparateServices:
    """Every service as a child, each with a configuration file of its own."""

    def __init__(
        self,
        *,
        data_dir: DataDir,
        config: Path | None,
        environ: Mapping[str, str],
        executors: int | None,
        replicas: int | None,
        postgres: PostgresAccess | None,
        nursery: Nursery,
        envoy: Path,
        certificates: MeshCertificates | None,
        report: Reporter,
        pids: Callable[[], Iterable[int]],
    ) -> None:
        """Triton is one of the processes where the environment names it.

        Args:
            data_dir: Of the mesh.
            config: The file with the settings of all services.
            environ: Where they may be, too.
            executors: How many there are; None for as many as last time.
            replicas: Of governor, reasoning and tool; and of the coordinator, where it has
                a PostgreSQL. None for as many as last time.
            postgres: What is used where the settings name none.
            nursery: Imports the modules of all services; ended by who started it.
            envoy: The binary of the proxy between the services.
            certificates: By which processes of the mesh know each other; None in plain text.
            report: Is told what becomes of each process.
            pids: Of all processes of the mesh, the stores and the gateway among them.
        """
        self._data_dir: Final = data_dir
        self._config: Final = config
        self._environ: Final = environ
        self._report: Final = report
        self._pids: Final = pids
        self._executors: Final = executors
        self._replicas: Final = replicas
        # What outlives this mesh, and what it was started with of it.
        self._scale_file: Final = ScaleFile(data_dir.path)
        self._asked: Mapping[str, int] = {}
        self._postgres: Final = postgres
        self._certificates: Final = certificates
        self._crossing: Final = Crossing(
            envoy,
            data_dir,
            binaries.repository_root(),
            called=_CALLED,
            certificates=certificates.proxy if certificates else None,
        )
        # The processes of each part, and the ports of all.
        self._names: dict[str, list[str]] = {}
        self._ports: dict[str, int] = {}
        (self._directory_port,) = ports.free_ports(1)
        self._directory: Directory | None = None
        self._nursery: Final = nursery
        self._triton: Final = find_triton(environ)
        self._tritons: TritonServers | None = None
        self._settings: Settings | None = None
        self._sections: dict[str, Any] = {}
        self._children: list[Child] = []
        self._proxy: Child | None = None
        self._watchers: Final = Watchers()
        self._control: Final = ControlSocket(data_dir.run, self.scale)
        # Where what is started finds NATS and Redis.
        self._stores: Stores | None = None

    @property
    def endpoints(self) -> Mapping[str, Sequence[int]]:
        """The ports of each cluster, once it is configured."""
        own = {part: self._instances(part) for part in self._names}
        return {**own, DIRECTORY: (self._directory_port,)}

    @property
    def upstreams(self) -> Upstreams:
        """How the gateway follows the instances."""
        certificates = self._certificates.gateway if self._certificates else None
        return Upstreams(self._crossing.folder, certificates)

    @property
    def notes(self) -> tuple[str, ...]:
        """What this tier plainly does not do yet."""
        return (
            *(() if self._certificates else (_PLAIN,)),
            *(() if self._sections.get(_COORDINATOR, {}).get("read_model") else (_NO_POSTGRES,)),
            *(() if self._triton else (_NO_TRITON,)),
        )

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """This process, and one for each service."""
        supervisor = ProcessRecord(
            "mesh", os.getpid(), VERSION, (self._directory_port,), self._data_dir.log_file("mesh")
        )
        children = [each.record for each in (self._proxy, *self._children) if each]
        return (supervisor, *self._nursery.records, *children)

    @property
    def settings(self) -> "Settings":
        """Of all services, once it is configured."""
        if self._settings is None:
            raise RuntimeError("configure comes before the settings")
        return self._settings

    def let_in(self, keys: Path) -> None:
        """Names the coordinators the keys that they are to know from the first moment."""
        own = {"bootstrap_keys": str(keys)}
        self._sections[_COORDINATOR] = {**own, **self._sections.get(_COORDINATOR, {})}

    def configure(self) -> None:
        """Reads the settings of all services. Raises BadConfig, and ScaleUnreadable."""
        from tier.settings import load_settings

        settings = self._settings = load_settings(self._config, self._environ)
        self._sections = settings.model_dump(mode="json", exclude_unset=True)
        # So that the limits of small tiers hold for any number of gateways.
        shared = {"shared_limits_up_to": _SHARED_LIMITS_UP_TO}
        self._sections["governor"] = {**shared, **self._sections.get("governor", {})}
        if self._postgres:
            for part, key in _DATABASES:
                own = {key: self._postgres.address}
                self._sections[part] = {**own, **self._sections.get(part, {})}
        self._assign()
        if self._triton:
            self._tritons = TritonServers(
                self._triton, settings.triton, self._data_dir, self._environ
            )
            # Who configured an embedder has decided.
            self._sections["reasoning"] = {
                **self._tritons.reasoning,
                **self._sections.get("reasoning", {}),
            }

    def _assign(self) -> None:
        """Says which processes there are, gives each its port, and tells the Envoys."""
        several = set[str](_REPLICATED)
        if self._sections.get(_COORDINATOR, {}).get("read_model"):
            several.add(_COORDINATOR)
        asked = {**dict.fromkeys(several, self._replicas), _EXECUTOR: self._executors}
        self._asked = {part: count for part, count in asked.items() if count is not None}
        last = scaling.possible(self._scale_file.read(), self._sections)
        counts = {**last, **self._asked}
        self._names = {
            part.name: [*scaling.names(part.name, counts.get(part.name, 1))] for part in parts.PARTS
        }
        names = [name for names in self._names.values() for name in names]
        self._ports = dict(zip(names, ports.free_ports(len(names)), strict=True))
        holders = {service: part.name for part in parts.PARTS for service in part.services}
        self._directory = Directory(
            self._directory_port,
            {
                service: f"{HOST}:{self._ports[self._names[part][0]]}"
                for service, part in holders.items()
            },
            self._certificates.directory(holders) if self._certificates else None,
        )
        for cluster, instances in self.endpoints.items():
            self._crossing.set(cluster, instances)

    async def start(self, stores: Stores) -> None:
        """Starts every service, the executors last. Raises StartFailed."""
        if self._directory is None:
            raise RuntimeError("configure comes before start")
        self._stores = stores
        self._proxy = Child(self._crossing.spec(), self._report, PATIENT)
        self._proxy.spawn()
        await self._directory.start()
        await self._nursery.ready()
        specs = [self._spec(name) for name in self._ports]
        if self._tritons:
            specs += self._tritons.specs()
        executors = [each for each in specs if each.name.startswith(_EXECUTOR)]
        await self._proxy.ready()
        # An executor reads streams that the coordinator makes.
        for group in ([each for each in specs if each not in executors], executors):
            started = [self._spawn(spec) for spec in group]
            await asyncio.gather(*(each.ready() for each in started))
        if self._asked:
            self._scale_file.keep(self._asked)
        await self._control.open()

    def watches(self, on_restart: Callable[[], None]) -> Sequence[Awaitable[None]]:
        """Each process, started again when it dies; and what the mesh uses of the machine."""
        if self._proxy is None:
            raise RuntimeError("the processes come before their watchers")
        watches = [
            self._nursery.watch(self._report, on_restart),
            self._proxy.watch(on_restart),
            self._watchers.run(self._children, on_restart),
        ]
        if self.settings.machine.awake_while_busy:
            watches.append(keep_awake_while_busy(self._pids))
        return watches

    async def scale(self, wanted: Mapping[str, int]) -> Scaled:
        """Starts and ends processes until each part has as many; how many it had and has.

        The next start has as many. Raises BadOptions for what cannot be, StartFailed where a
        process does not come up, ScaleUnreadable and ScaleNotKept.
        """
        scaling.check(wanted, self._sections)
        self._scale_file.read()
        done: dict[str, tuple[int, int]] = {}
        try:
            for part, count in wanted.items():
                names = self._names[part]
                done[part] = (len(names), count)
                if count > len(names):
                    await self._add(part, scaling.more_names(part, names, count))
                else:
                    await self._take(part, names[count:])
                self._scale_file.keep({part: count})
        finally:
            self._watchers.tell()
        return done

    async def _add(self, part: str, names: Sequence[str]) -> None:
        self._ports.update(zip(names, ports.free_ports(len(names)), strict=True))
        started = [self._spawn(self._spec(name)) for name in names]
        try:
            await asyncio.gather(*(each.ready() for each in started))
        except BaseException:
            await asyncio.gather(*(self._end(each) for each in started))
            raise
        self._names[part].extend(names)
        for each in started:
            self._watchers.add(each)
        self._crossing.set(part, self._instances(part))

    async def _take(self, part: str, names: Sequence[str]) -> None:
        """Ends the last ones: the first is whom the directory asks."""
        leaving = [each for each in self._children if each.name in names]
        gone = [self._ports[each] for each in names]
        self._names[part] = [each for each in self._names[part] if each not in names]
        # Nobody calls an executor.
        if part != _EXECUTOR and gone:
            staying = self._instances(part)
            await self._crossing.take_out(part, staying, gone, within_seconds=_DRAIN_SECONDS)
        await asyncio.gather(*(self._end(each) for each in leaving))

    async def _end(self, child: Child) -> None:
        await self._watchers.remove(child)
        await child.stop()
        self._children.remove(child)
        del self._ports[child.name]

    def _instances(self, part: str) -> list[int]:
        return [self._ports[each] for each in self._names[part]]

    async def stop(self) -> None:
        """Ends the executors, then the others, the governor, and last what they are called by.

        What was spent until then is settled, and what was leased given back.
        """
        await self._control.close()
        executors = [each for each in self._children if each.name.startswith(_EXECUTOR)]
        governors = [each for each in self._children if each.name.startswith(_GOVERNOR)]
        others = [each for each in self._children if each not in (*executors, *governors)]
        for group in (executors, others, governors):
            await asyncio.gather(*(each.stop() for each in group))
        if self._proxy:
            await self._proxy.stop()
        if self._directory:
            await self._directory.stop()

    def _spawn(self, spec: ChildSpec) -> Child:
        child = Child(spec, self._report, PATIENT, self._nursery)
        child.spawn()
        self._children.append(child)
        return child

    def _spec(self, name: str) -> ChildSpec:
        part_name = name.partition("-")[0]
        (part,) = (each for each in parts.PARTS if each.name == part_name)
        stores = self._stores
        if stores is None:
            raise RuntimeError("the stores come before the services")
        values = {
            "nats_url": stores.nats_url,
            "redis_url": stores.counters_url if part_name in _LOSING else stores.redis_url,
            "targets": {each: self._crossing.target(each) for each in part.calls},
            "proxied": True,
            "data_dir": str(self._data_dir.path),
            **{
                key: self._sections[key]
                for key in (part_name, "task_partitions")
                if key in self._sections
            },
        }
        secrets = secrets_of(part_name, self._sections.get(part_name), os.environ)
        environment: Mapping[str, str] = {}
        if self._postgres and self._is_in_postgres(part_name):
            environment = self._postgres.environment
            # That of another server would come before it.
            secrets -= {"PGPASSWORD"}
        return service_child(
            self._data_dir,
            name,
            self._ports[name],
            program=(f"services.{part_name}.main",),
            values=values,
            environment=environment,
            secrets=secrets,
            tls=self._certificates.service(part_name) if self._certificates else None,
        )

    def _is_in_postgres(self, part: str) -> bool:
        """Whether it keeps something in the mesh's own PostgreSQL."""
        section = self._sections.get(part, {})
        own = self._postgres.address if self._postgres else None
        return any(section.get(key) == own for each, key in _DATABASES if own and each == part)
