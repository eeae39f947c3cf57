"""What a growth experiment varies: one thing at a time, from one mesh."""

from collections.abc import Sequence
from dataclasses import dataclass, replace
from typing import Final

from bench.tasks.bench_mesh import MeshPlan
from bench.tasks.load import Stream
from bench.tasks.options import MAX_BACKLOG, MAX_EXECUTORS, BadPlan
from bench.tasks.plan import Plan
from tier.api import Tier

# Enough that every one of a few partitions has some.
TENANTS: Final = 16
_IN_FLIGHT: Final = 64
_WARM_UP_SECONDS: Final = 5.0
_ROUNDS: Final = 3
_MAX_REPLICAS: Final = 16
_MAX_PARTITIONS: Final = 64
_MIN_BACKLOG: Final = 1_000
# Beside the executors and the replicas: coordinator, gateway, NATS, Redis, client.
_OTHERS_AT_WORK: Final = 5
_REPLICATED: Final = 3


@dataclass(frozen=True, slots=True)
class Axes:
    """The values that each thing takes. The first of each is that of the mesh that is varied."""

    executors: Sequence[int] = (1, 2, 4)
    # Processes of governor, reasoning and tool each.
    replicas: Sequence[int] = (1, 2)
    partitions: Sequence[int] = (1, 4)
    # Tasks that are queued beforehand; 0 for a closed loop on an empty mesh.
    backlogs: Sequence[int] = (0, 100_000)


@dataclass(frozen=True, slots=True)
class Cell:
    """One mesh."""

    executors: int
    replicas: int
    partitions: int
    backlog: int = 0

    @property
    def processes(self) -> int:
        """How many processes have something to do for each task."""
        return self.executors + _REPLICATED * self.replicas + _OTHERS_AT_WORK

    def plan(self, *, seconds: float, sync_always: bool | None) -> Plan:
        """What is run on it. `seconds`: the length of a round."""
        mesh = MeshPlan(
            tier=Tier.STAGING,
            executors=self.executors,
            sync_always=sync_always,
            latency_ms=0,
            replicas=self.replicas,
            task_partitions=self.partitions,
        )
        if self.backlog:
            return Plan(f"{self}", mesh, "batch", backlog=self.backlog)
        names = tuple(f"round {number}" for number in range(1, _ROUNDS + 1))
        return Plan(
            f"{self}",
            mesh,
            "run",
            tuple(
                Stream(f"bench-{number}", in_flight=_IN_FLIGHT // TENANTS)
                for number in range(TENANTS)
            ),
            tuple(_WARM_UP_SECONDS + seconds * number for number in range(_ROUNDS + 1)),
            names,
            frozenset(names),
        )

    def __str__(self) -> str:
        backlog = f", {self.backlog:,} queued" if self.backlog else ""
        return (
            f"executors {self.executors}, replicas {self.replicas},"
            f" partitions {self.partitions}{backlog}"
        )


def cells(axes: Axes) -> tuple[Cell, ...]:
    """The first mesh, and those that differ from it in one thing. Raises BadPlan."""
    for option, values, least, most in (
        ("--executors", axes.executors, 1, MAX_EXECUTORS),
        ("--replicas", axes.replicas, 1, _MAX_REPLICAS),
        ("--partitions", axes.partitions, 1, _MAX_PARTITIONS),
    ):
        if not values or not all(least <= value <= most for value in values):
            raise BadPlan(option, f"must be numbers from {least} to {most}, with commas between")
    if not all(not each or _MIN_BACKLOG <= each <= MAX_BACKLOG for each in axes.backlogs):
        raise BadPlan("--backlogs", f"must be 0 or from {_MIN_BACKLOG:,} to {MAX_BACKLOG:,}")
    first = Cell(axes.executors[0], axes.replicas[0], axes.partitions[0])
    found = [
        first,
        *(replace(first, executors=each) for each in axes.executors),
        *(replace(first, replicas=each) for each in axes.replicas),
        *(replace(first, partitions=each) for each in axes.partitions),
        *(replace(first, backlog=each) for each in axes.backlogs),
    ]
    return tuple(dict.fromkeys(found))


def crowding(cells: Sequence[Cell], processors: int) -> str:
    """What the figures say where processes share processors; empty where each may have one."""
    most = max(each.processes for each in cells)
    if most <= processors:
        return ""
    return (
        f"Up to {most} processes work on {processors} processors: the figures say what a further"
        " one costs there, not what it brings on a machine of its own. Nothing fails for that:"
        " tasks wait."
    )
