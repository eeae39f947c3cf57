"""A mesh with real servers and gateway, and stand-ins for the services."""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from pathlib import Path

import psutil

from meshkit.service import Service
from tests.gateway.stand_in import StandInCoordinator, registrations
from tier.embedded import Build, ResourcesOf
from tier.events import Event
from tier.state import MeshState


def stand_ins(_config: Path | None, _environ: Mapping[str, str]) -> Build:
    """In place of the composition root of the prototype."""

    async def build(resources_of: ResourcesOf) -> Sequence[Service]:
        resources_of("coordinator")
        return [Service(registrations(StandInCoordinator("prototype")))]

    return build


def with_jobs(
    *jobs: Callable[[], Awaitable[None]], callers: Sequence[Callable[[], Awaitable[None]]] = ()
) -> Callable[..., Build]:
    """Stand-ins that also have background jobs."""

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        async def build(resources_of: ResourcesOf) -> Sequence[Service]:
            resources_of("coordinator")
            return [Service(registrations(StandInCoordinator("prototype")), jobs, callers)]

        return build

    return load


def ignore(_event: Event) -> None:
    """For starts that nobody watches."""


def alive(pids: Sequence[int]) -> list[int]:
    """Those of the processes that run."""
    return [pid for pid in pids if _runs(pid)]


def _runs(pid: int) -> bool:
    try:
        return psutil.Process(pid).status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def pid_of(state: MeshState, name: str) -> int:
    """The pid of one process of the mesh."""
    (record,) = (each for each in state.processes if each.name == name)
    return record.pid


def children(state: MeshState) -> list[int]:
    """The pids of all processes but the supervisor."""
    return [each.pid for each in state.processes if each.pid != state.pid]


def listens(state: MeshState, name: str) -> set[str]:
    """The addresses at which a process really listens."""
    sockets = psutil.Process(pid_of(state, name)).net_connections()
    # gRPC has IPv4 in IPv6.
    return {
        each.laddr[0].removeprefix("::ffff:")
        for each in sockets
        if each.status == psutil.CONN_LISTEN
    }
