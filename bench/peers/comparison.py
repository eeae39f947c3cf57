"""What rounds of several systems say about each other."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from bench.peers.peer import Figures
from bench.peers.rounds import Outcome


@dataclass(frozen=True, slots=True)
class Spread:
    """One figure over the rounds."""

    median: float
    least: float
    most: float

    def to_json(self) -> dict[str, float]:
        """As plain values."""
        return {
            "median": round(self.median, 3),
            "min": round(self.least, 3),
            "max": round(self.most, 3),
        }


@dataclass(frozen=True, slots=True)
class Summary:
    """One system over its rounds."""

    name: str
    title: str
    setting: str
    rounds: int
    tasks_per_minute: Spread
    cpu_ms_per_task: Spread
    p50_ms: Spread
    p99_ms: Spread
    # Medians, by part of the system.
    cpu_ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "setting": self.setting,
            "rounds": self.rounds,
            "tasks_per_minute": self.tasks_per_minute.to_json(),
            "cpu_ms_per_task": self.cpu_ms_per_task.to_json(),
            "cpu_ms_by_part": {part: round(ms, 3) for part, ms in self.cpu_ms.items()},
            "p50_ms": self.p50_ms.to_json(),
            "p99_ms": self.p99_ms.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Ratio:
    """One system's medians divided by another's."""

    name: str
    # Whose figures they are divided by.
    peer: str
    tasks_per_minute: float
    cpu_ms_per_task: float
    p99_ms: float

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "peer": self.peer,
            "tasks_per_minute": round(self.tasks_per_minute, 3),
            "cpu_ms_per_task": round(self.cpu_ms_per_task, 3),
            "p99_ms": round(self.p99_ms, 3),
        }


def summary(outcome: Outcome) -> Summary:
    """The medians and ranges of a system that was measured at least once."""

    def spread(value: Callable[[Figures], float]) -> Spread:
        values = [value(each) for each in outcome.figures]
        return Spread(statistics.median(values), min(values), max(values))

    parts = {part: None for each in outcome.figures for part in each.cpu_ms}
    return Summary(
        name=outcome.name,
        title=outcome.title,
        setting=outcome.setting,
        rounds=len(outcome.figures),
        tasks_per_minute=spread(lambda each: each.tasks_per_minute),
        cpu_ms_per_task=spread(lambda each: each.cpu_ms_per_task),
        p50_ms=spread(lambda each: each.p50_ms),
        p99_ms=spread(lambda each: each.p99_ms),
        cpu_ms={
            part: statistics.median(each.cpu_ms.get(part, 0.0) for each in outcome.figures)
            for part in parts
        },
    )


def ratios(ours: Sequence[Summary], theirs: Sequence[Summary]) -> list[Ratio]:
    """Each of ours against each of theirs."""
    return [
        Ratio(
            name=mine.name,
            peer=other.name,
            tasks_per_minute=mine.tasks_per_minute.median / other.tasks_per_minute.median,
            cpu_ms_per_task=mine.cpu_ms_per_task.median / other.cpu_ms_per_task.median,
            p99_ms=mine.p99_ms.median / other.p99_ms.median,
        )
        for other in theirs
        for mine in ours
    ]
