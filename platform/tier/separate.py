"""The staging tier's topology: a process a service, more of some, and executors, as asked for."""

import asyncio
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path
from typing import Any, Final

from tier import parts, ports
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.data_dir import DataDir
from tier.directory import Directory
from tier.events import Reporter
from tier.gateway_config import DIRECTORY
from tier.nursery import NURSERY, Nursery
from tier.ports import HOST
from tier.secret_variables import secrets_of
from tier.service_child import service_child
from tier.state import ProcessRecord
from tier.triton_child import find_triton
from tier.triton_servers import TritonServers
from tier.version import VERSION

_EXECUTOR: Final = "executor"
_GOVERNOR: Final = "governor"
# What keeps no files, of which there may be several.
_REPLICATED: Final = ("governor", "reasoning", "tool")
# In requests a second. Each request of such a tier asks a governor.
_SHARED_LIMITS_UP_TO: Final = 100
_NOTES: Final = (
    "Calls between services go directly over the loopback interface: no proxy between them, "
    "no mutual TLS yet.",
    "There is no authentication: whoever reaches the loopback interface may name any tenant.",
)
_NO_POSTGRES: Final = (
    "The read model is kept in SQLite, for one coordinator alone: the setting "
    "coordinator.read_model may name a PostgreSQL."
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
        executors: int,
        replicas: int,
        report: Reporter,
    ) -> None:
        """Triton is one of the processes where the environment names it.

        `replicas`: of governor, reasoning and tool.
        """
        self._data_dir: Final = data_dir
        self._config: Final = config
        self._environ: Final = environ
        self._report: Final = report
        # The processes of each part.
        self._names: Final = {
            part.name: _names(part.name, executors=executors, replicas=replicas)
            for part in parts.PARTS
        }
        names = [name for names in self._names.values() for name in names]
        directory_port, *own = ports.free_ports(len(names) + 1)
        self._ports: Final = dict(zip(names, own, strict=True))
        self._directory: Final = Directory(
            directory_port,
            {
                service: f"{HOST}:{self._ports[self._names[part.name][0]]}"
                for part in parts.PARTS
                for service in part.services
            },
        )
        self._directory_port: Final = directory_port
        self._nursery: Final = Nursery(
            [f"services.{part.name}.main" for part in parts.PARTS], data_dir.rotate(NURSERY)
        )
        self._triton: Final = find_triton(environ)
        self._tritons: TritonServers | None = None
        self._sections: dict[str, Any] = {}
        self._children: list[Child] = []

    @property
    def endpoints(self) -> Mapping[str, Sequence[int]]:
        """A port for each cluster."""
        own = {
            part: tuple(self._ports[name] for name in names) for part, names in self._names.items()
        }
        return {**own, DIRECTORY: (self._directory_port,)}

    @property
    def notes(self) -> tuple[str, ...]:
        """What this tier plainly does not do yet."""
        has_postgres = bool(self._sections.get("coordinator", {}).get("read_model"))
        return (
            *_NOTES,
            *(() if has_postgres else (_NO_POSTGRES,)),
            *(() if self._triton else (_NO_TRITON,)),
        )

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """This process, and one for each service."""
        supervisor = ProcessRecord(
            "mesh", os.getpid(), VERSION, (self._directory_port,), self._data_dir.log_file("mesh")
        )
        children = [each.record for each in self._children]
        return (supervisor, *self._nursery.records, *children)

    def configure(self) -> None:
        """Reads the settings of all services. Raises BadConfig."""
        # Imports while the servers start.
        self._nursery.start()
        from tier.settings import load_settings

        settings = load_settings(self._config, self._environ)
        self._sections = settings.model_dump(mode="json", exclude_unset=True)
        # So that the limits of small tiers hold for any number of gateways.
        shared = {"shared_limits_up_to": _SHARED_LIMITS_UP_TO}
        self._sections["governor"] = {**shared, **self._sections.get("governor", {})}
        if self._triton:
            self._tritons = TritonServers(
                self._triton, settings.triton, self._data_dir, self._environ
            )
            # Who configured an embedder has decided.
            self._sections["reasoning"] = {
                **self._tritons.reasoning,
                **self._sections.get("reasoning", {}),
            }

    async def start(self, nats_url: str, redis_url: str) -> None:
        """Starts every service, the executors last. Raises StartFailed."""
        await self._directory.start()
        await self._nursery.ready()
        specs = [self._spec(name, nats_url, redis_url) for name in self._ports]
        if self._tritons:
            specs += self._tritons.specs()
        executors = [each for each in specs if each.name.startswith(_EXECUTOR)]
        # An executor reads streams that the coordinator makes.
        for group in ([each for each in specs if each not in executors], executors):
            started = [self._spawn(spec) for spec in group]
            await asyncio.gather(*(each.ready() for each in started))

    def watches(self, on_restart: Callable[[], None]) -> Sequence[Awaitable[None]]:
        """Each process, started again when it dies."""
        return [each.watch(on_restart) for each in self._children]

    async def stop(self) -> None:
        """Ends the executors, then the others, the governor last, then the directory.

        What was spent until then is settled, and what was leased given back.
        """
        executors = [each for each in self._children if each.name.startswith(_EXECUTOR)]
        governors = [each for each in self._children if each.name.startswith(_GOVERNOR)]
        others = [each for each in self._children if each not in (*executors, *governors)]
        for group in (executors, others, governors):
            await asyncio.gather(*(each.stop() for each in group))
        self._nursery.stop()
        await self._directory.stop()

    def _spawn(self, spec: ChildSpec) -> Child:
        child = Child(spec, self._report, RestartPolicy(), self._nursery)
        child.spawn()
        self._children.append(child)
        return child

    def _spec(self, name: str, nats_url: str, redis_url: str) -> ChildSpec:
        part_name = name.partition("-")[0]
        (part,) = (each for each in parts.PARTS if each.name == part_name)
        values = {
            "nats_url": nats_url,
            "redis_url": redis_url,
            "targets": {each: self._target(each) for each in part.calls},
            "data_dir": str(self._data_dir.path),
            **{
                key: self._sections[key]
                for key in (part_name, "task_partitions")
                if key in self._sections
            },
        }
        return service_child(
            self._data_dir,
            name,
            self._ports[name],
            program=(f"services.{part_name}.main",),
            values=values,
            secrets=secrets_of(part_name, self._sections.get(part_name), os.environ),
        )

    def _target(self, part: str) -> str:
        """Where all processes of a part are."""
        addresses = [f"{HOST}:{self._ports[name]}" for name in self._names[part]]
        return addresses[0] if len(addresses) == 1 else f"ipv4:{','.join(addresses)}"


def _names(part: str, *, executors: int, replicas: int) -> tuple[str, ...]:
    if part == _EXECUTOR:
        return tuple(f"{part}-{number}" for number in range(1, executors + 1))
    if part in _REPLICATED and replicas > 1:
        return tuple(f"{part}-{number}" for number in range(1, replicas + 1))
    return (part,)
