"""What is told of a mesh and its machine when somebody asks."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class ProcessStatus:
    """One process of the mesh."""

    name: str
    # None while it is down.
    pid: int | None
    version: str
    healthy: bool
    # One line: what it says of itself, or what is wrong.
    detail: str
    # Of one core, over the last moment.
    cpu_percent: float
    memory_mb: float
    ports: tuple[int, ...]
    # Over the last moment: calls of Envoys and services, messages of NATS, commands of Redis; None
    # where nobody counts them.
    calls_per_second: float | None = None
    # Where it really listens, `address:port`; empty where this user may not know.
    listens: tuple[str, ...] = ()
    # How often it was started again, and why and when it ended last.
    restarts: int = 0
    last_death: str = ""


@dataclass(frozen=True, slots=True)
class Check:
    """One thing that was looked at, and whether it is as a mesh needs it."""

    name: str
    passed: bool
    # One line.
    detail: str
    # What to do; empty where it passed.
    remedy: str = ""
