"""A whole mesh of separate processes, each of which a test can hurt."""

import asyncio
import dataclasses
import os
import signal
from collections.abc import AsyncGenerator, Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import psutil
import yaml

from meshtest.child_server import binary
from meshtest.proxy import FaultProxy
from tests.faults import told_calculator
from tests.faults.fault import Action, Fault
from tests.faults.outside import Outside
from tier import binaries, parts, ports
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.data_dir import DataDir
from tier.events import Event, Phase, Reporter
from tier.gateway_child import gateway_child
from tier.gateway_config import DIRECTORY
from tier.nats_child import nats_child
from tier.nursery import Nursery
from tier.ports import HOST
from tier.redis_child import counters_child, redis_child
from tier.service_child import service_child

NATS: Final = "nats"
REDIS: Final = "redis"
COUNTERS: Final = "redis-counters"
GATEWAY: Final = "gateway"
# Two of these, so that one can be away.
COORDINATORS: Final = ("coordinator-1", "coordinator-2")
EXECUTORS: Final = ("executor-1", "executor-2")
# What these keep in Redis may be lost, as in staging.
_LOSING: Final = ("governor", "reasoning")
_SINGLE: Final = ("governor", "reasoning", "memory", "tool")
SERVICES: Final = (*_SINGLE, *COORDINATORS, *EXECUTORS)
EVERYTHING: Final = (NATS, REDIS, COUNTERS, GATEWAY, *SERVICES)

_PROGRAM: Final = "tests.faults.service_process"
_PRELOADED: Final = (
    _PROGRAM,
    "tests.faults.told_calculator",
    *(f"services.{part.name}.main" for part in parts.PARTS),
)
_PRICES: Final = Path("services/governor/prices.yaml")
_REPOSITORY: Final = binaries.repository_root()
# What dies by itself is started again, but not for ever.
_POLICY: Final = RestartPolicy(first_delay_seconds=0.1, factor=1.5, limit=20)


@dataclass(frozen=True, slots=True)
class Arrangement:
    """How a mesh differs from the ordinary one."""

    # Services whose connection to NATS can be cut.
    behind_proxy: tuple[str, ...] = ()
    # Services whose connections to the services that call them can be broken.
    called_through_proxy: tuple[str, ...] = ()
    # How many there are of each service that is no coordinator and no executor.
    replicas: int = 1
    # Whether the calculator may be called again under the same key.
    effect: str = "IDEMPOTENT"
    # What NATS is started through.
    nats_through: tuple[str, ...] = ()
    # Into how many streams the task log is cut.
    task_partitions: int = 1
    # Settings of services, by part.
    settings: Mapping[str, Mapping[str, Any]] = field(default_factory=dict[str, Mapping[str, Any]])


class FaultMesh:
    """Its processes, by name."""

    def __init__(self, data_dir: DataDir, outside: Outside, arrangement: Arrangement) -> None:
        """Made by `running` alone."""
        self.outside: Final = outside
        # Who died though no fault said so, and how.
        self.deaths: Final[list[str]] = []
        # In the words of the supervisor, for who reads a failed test.
        self._report: Final = Reporter(self._hear)
        self._data_dir: Final = data_dir
        self._arrangement: Final = arrangement
        self._nursery: Final = Nursery(_PRELOADED, data_dir.log_file("nursery"))
        self._children: Final[dict[str, Child]] = {}
        self._watchers: Final[dict[str, asyncio.Future[None]]] = {}
        # Between a service and NATS, and between a service and its callers.
        self._proxies: Final[dict[str, FaultProxy]] = {}
        self._fronts: Final[dict[str, FaultProxy]] = {}
        # The names of its services.
        self.services: Final = _names(arrangement.replicas)
        names: Sequence[str] = (NATS, "monitor", REDIS, COUNTERS, GATEWAY, *self.services)
        numbers = ports.free_ports(len(names))
        self._ports: Final[dict[str, int]] = dict(zip(names, numbers, strict=True))

    @property
    def address(self) -> str:
        """Of the gateway."""
        return f"{HOST}:{self._ports[GATEWAY]}"

    @property
    def nats_url(self) -> str:
        """Of the broker itself."""
        return f"nats://{HOST}:{self._ports[NATS]}"

    @property
    def redis_url(self) -> str:
        """Of the store."""
        return f"redis://{HOST}:{self._ports[REDIS]}"

    @property
    def counters_url(self) -> str:
        """Of the store of what governor and reasoning may lose."""
        return f"redis://{HOST}:{self._ports[COUNTERS]}"

    @property
    def nats_store(self) -> Path:
        """The folder that the broker writes to."""
        return self._data_dir.folder(NATS)

    def pid(self, name: str) -> int:
        """Of the process as it runs now."""
        return self._children[name].record.pid

    def caller(self, port: int) -> str:
        """The executor that has a connection from this port."""
        for name in EXECUTORS:
            for each in psutil.Process(self.pid(name)).net_connections("tcp"):
                if each.laddr and each.laddr.port == port:
                    return name
        raise LookupError(f"no executor has port {port}")

    async def inflict(
        self, fault: Fault, meanwhile: Callable[[], Awaitable[object]] | None = None
    ) -> None:
        """Waits for its moment, does it, and undoes it; the target runs when this returns.

        What is to happen `meanwhile` does so first, and its time does not count.
        """
        await asyncio.sleep(fault.after)
        await self.hurt(fault)
        if meanwhile is not None:
            await meanwhile()
        await asyncio.sleep(fault.lasts)
        await self.heal(fault)

    def swallowed(self, name: str) -> int:
        """How many bytes of its answers have not reached its callers since it was hurt."""
        return self._fronts[name].swallowed

    def forget(self) -> None:
        """Begins anew, for the next test: nobody died, and nothing was done outside."""
        self.deaths.clear()
        self.outside.asked.clear()
        self.outside.on_effect = None

    async def hurt(self, fault: Fault) -> None:
        """Does it."""
        print(f"{self._report.seconds:7.3f} s  {fault}")
        target = fault.target
        match fault.action:
            case Action.KILL:
                await self.end(target, signal.SIGKILL)
            case Action.RESTART:
                await self.end(target, signal.SIGTERM)
            case Action.FREEZE:
                os.kill(self.pid(target), signal.SIGSTOP)
            case Action.CUT_OFF:
                self._proxies[target].refuse = True
                self._proxies[target].cut()
            case Action.BREAK_OFF:
                self._fronts[target].swallowed = 0
                self._fronts[target].swallow_answers = True
            case Action.HOUR_AHEAD:
                os.kill(self.pid(target), signal.SIGUSR1)
            case Action.HOUR_BEHIND:
                os.kill(self.pid(target), signal.SIGUSR2)

    async def heal(self, fault: Fault) -> None:
        """Undoes it."""
        target = fault.target
        match fault.action:
            case Action.KILL | Action.RESTART:
                await self.start(target)
            case Action.FREEZE:
                os.kill(self.pid(target), signal.SIGCONT)
            case Action.CUT_OFF:
                self._proxies[target].refuse = False
            case Action.BREAK_OFF:
                self._fronts[target].swallow_answers = False
                self._fronts[target].cut()
            case Action.HOUR_AHEAD:
                os.kill(self.pid(target), signal.SIGUSR2)
            case Action.HOUR_BEHIND:
                os.kill(self.pid(target), signal.SIGUSR1)

    async def end(self, name: str, how: signal.Signals) -> None:
        """Ends a process by SIGKILL, or in order by SIGTERM, and leaves it dead."""
        watcher = self._watchers.pop(name)
        watcher.cancel()
        await asyncio.wait([watcher])
        if how is signal.SIGKILL:
            os.kill(self.pid(name), how)
        await self._children[name].stop()

    async def start(self, name: str) -> None:
        """Starts what was ended; returns when it answers."""
        child = self._children[name]
        child.spawn()
        await child.ready()
        self._watch(name)

    async def come_up(self, stack: AsyncExitStack) -> None:
        """Starts everything. Called once, by `running`."""
        for name in self._arrangement.behind_proxy:
            self._proxies[name] = await stack.enter_async_context(FaultProxy(self._ports[NATS]))
        for name in self._arrangement.called_through_proxy:
            self._fronts[name] = await stack.enter_async_context(FaultProxy(self._ports[name]))
        self._nursery.start()
        stack.callback(self._nursery.stop)
        stack.push_async_callback(self._stop)
        await self._bring_up(self._servers())
        await self._nursery.ready()
        specs = [self._service(name) for name in self.services]
        # An executor reads streams that the coordinator makes.
        await self._bring_up([each for each in specs if each.name not in EXECUTORS])
        await self._bring_up([each for each in specs if each.name in EXECUTORS])
        for name in self._children:
            self._watch(name)

    async def _bring_up(self, specs: Sequence[ChildSpec]) -> None:
        for spec in specs:
            child = self._children[spec.name] = Child(spec, self._report, _POLICY, self._nursery)
            child.spawn()
        await asyncio.gather(*(self._children[spec.name].ready() for spec in specs))

    def _watch(self, name: str) -> None:
        self._watchers[name] = asyncio.ensure_future(self._children[name].watch(lambda: None))

    async def _stop(self) -> None:
        for each in self._watchers.values():
            each.cancel()
        for child in self._children.values():
            if child.record.pid:
                # Nobody waits here for an orderly end; a frozen one would never come.
                with suppress(ProcessLookupError):
                    os.kill(child.record.pid, signal.SIGKILL)
            await child.stop()

    def _hear(self, event: Event) -> None:
        print(f"{event.seconds:7.3f} s  {event.part:13} {event.text}")
        if event.phase is Phase.DIED:
            self.deaths.append(event.text)

    def _servers(self) -> list[ChildSpec]:
        place, data_dir = self._ports, self._data_dir
        nats = nats_child(
            binary("NATS_SERVER"), data_dir, place[NATS], place["monitor"], flushes=True
        )
        endpoints: dict[str, list[int]] = {}
        for name in self.services:
            endpoints.setdefault(name.partition("-")[0], []).append(place[name])
        endpoints[DIRECTORY] = endpoints["coordinator"]
        return [
            dataclasses.replace(nats, command=(*self._arrangement.nats_through, *nats.command)),
            redis_child(binary("REDIS_SERVER"), data_dir, place[REDIS]),
            counters_child(binary("REDIS_SERVER"), data_dir, place[COUNTERS]),
            gateway_child(binary("ENVOY"), data_dir, _REPOSITORY, place[GATEWAY], endpoints),
        ]

    def _service(self, name: str) -> ChildSpec:
        part_name = name.partition("-")[0]
        (part,) = (each for each in parts.PARTS if each.name == part_name)
        proxy = self._proxies.get(name)
        values = {
            "nats_url": f"nats://{HOST}:{proxy.port}" if proxy else self.nats_url,
            "redis_url": self.counters_url if part_name in _LOSING else self.redis_url,
            "targets": {each: self._target(each) for each in part.calls},
            # Replicas share no files.
            "data_dir": str(self._data_dir.folder(name)),
            "instance": name.partition("-")[2],
            "task_partitions": self._arrangement.task_partitions,
            part_name: {
                **self._section(part_name),
                **self._arrangement.settings.get(part_name, {}),
            },
        }
        return service_child(
            self._data_dir,
            name,
            self._ports[name],
            program=(_PROGRAM, part_name),
            values=values,
            environment={
                told_calculator.OUTSIDE: self.outside.address,
                told_calculator.EFFECT: self._arrangement.effect,
            },
        )

    def _target(self, part: str) -> str:
        """Where all instances of a service are."""
        found = [name for name in self.services if name.partition("-")[0] == part]
        fronts = {name: proxy.port for name, proxy in self._fronts.items()}
        places = {**self._ports, **fronts}
        return "ipv4:" + ",".join(f"{HOST}:{places[name]}" for name in found)

    def _section(self, part: str) -> dict[str, Any]:
        """Calls of the model that comes with the mesh cost something here, and never too much."""
        if part not in ("governor", "reasoning"):
            return {}
        book = self._data_dir.run / "prices.yaml"
        prices = yaml.safe_load((_REPOSITORY / _PRICES).read_text("utf-8"))
        prices["versions"][-1]["models"]["offline"].update(input=1_000_000, output=2_000_000)
        book.write_text(yaml.safe_dump(prices), "utf-8")
        allowance = {"allowance_micros_per_minute": 1_000_000_000} if part == "reasoning" else {}
        return {"price_book": str(book), **allowance}


def _names(replicas: int) -> tuple[str, ...]:
    if replicas == 1:
        return SERVICES
    numbers = range(1, replicas + 1)
    others = [f"{part}-{number}" for part in _SINGLE for number in numbers]
    return (*others, *COORDINATORS, *EXECUTORS)


@asynccontextmanager
async def running(
    folder: Path, arrangement: Arrangement = Arrangement()
) -> AsyncGenerator[FaultMesh]:
    """A mesh with its state in `folder`."""
    data_dir = DataDir(folder / "mesh")
    data_dir.prepare()
    async with Outside() as outside, AsyncExitStack() as stack:
        mesh = FaultMesh(data_dir, outside, arrangement)
        await mesh.come_up(stack)
        yield mesh
