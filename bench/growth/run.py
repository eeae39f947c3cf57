"""Runs the reference task on one mesh after the other."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from bench.growth.grid import Cell
from bench.tasks.report import Report
from bench.tasks.run import Tell, run


@dataclass(frozen=True, slots=True)
class Grown:
    """What one mesh did."""

    cell: Cell
    report: Report

    @property
    def tasks_per_minute(self) -> float:
        """Ended tasks; with a backlog those that were handed out."""
        return float(self.report.to_json()["tasks_per_minute"])

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        values = self.report.to_json()
        medians = ("tasks_per_minute_range", "cpu_ms_per_task", "cores", "p50_ms", "p99_ms")
        return {
            "executors": self.cell.executors,
            "replicas": self.cell.replicas,
            "partitions": self.cell.partitions,
            "backlog": self.cell.backlog,
            "tasks_per_minute": self.tasks_per_minute,
            **{key: values[key] for key in medians if key in values},
            **({"compared": values["backlog"]} if self.cell.backlog else {}),
            "good": self.report.good,
        }


async def grow(
    cells: Sequence[Cell], *, seconds: float, sync_always: bool | None, tell: Tell
) -> list[Grown]:
    """Each mesh in turn. Raises as `bench.tasks.run.run`.

    Args:
        cells: The meshes.
        seconds: The length of a round; there are three of them.
        sync_always: Whether NATS flushes each write; None for what the tier does.
        tell: Told what is being done, in a line.
    """
    grown: list[Grown] = []
    for number, cell in enumerate(cells, start=1):

        def tell_of_cell(what: str, prefix: str = f"{number} of {len(cells)}: ") -> None:
            tell(prefix + what)

        plan = cell.plan(seconds=seconds, sync_always=sync_always)
        grown.append(Grown(cell, await run(plan, tell_of_cell)))
    return grown
