"""Keeps a number of tasks in flight, and says how quick they were.

Imported by the programs that run inside a peer's own environment: only Python's
own library may be used here. They are given the load as JSON in their first
argument, and write a line of JSON for each event to stdout: `measuring` when the
warm-up is over, `measured` right at the end of the time measured, so that
whoever reads them can look at the clocks of all processes at these moments, and
`result` with the figures.
"""

import asyncio
import json
import math
import time
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Any, Final


@dataclass(frozen=True, slots=True)
class Load:
    """How much load, and for how long."""

    in_flight: int
    # Not measured: connections are opened and caches filled in it.
    warm_up_seconds: float
    seconds: float


def load_of(options: dict[str, Any]) -> Load:
    """The load that a driver was started with."""
    return Load(
        in_flight=int(options["in_flight"]),
        warm_up_seconds=float(options["warm_up_seconds"]),
        seconds=float(options["seconds"]),
    )


def percentile(ordered: list[float], share: float) -> float:
    """The least of the ordered values that at least `share` of them do not exceed."""
    return ordered[max(math.ceil(share * len(ordered)), 1) - 1]


def _say(event: str, **values: float) -> None:
    print(json.dumps({"event": event, **values}), flush=True)


class Window:
    """The time measured: it begins and ends with a task's end."""

    def __init__(
        self,
        load: Load,
        *,
        say: Callable[..., None] = _say,
        clock: Callable[[], float] = time.perf_counter,
    ) -> None:
        """`say` is told of each event; `clock` counts seconds."""
        self._load: Final = load
        self._say: Final = say
        self._clock: Final = clock
        self._numbers = 0
        self._created: Final = clock()
        self._begun: float | None = None
        self._ended: float | None = None
        self._taken: Final[list[float]] = []

    @property
    def over(self) -> bool:
        """Whether no more tasks are to be begun."""
        return self._ended is not None

    def begin(self) -> tuple[int, float]:
        """A new task's number and its time of begin."""
        self._numbers += 1
        return self._numbers, self._clock()

    def end(self, begun: float) -> None:
        """A task that began at that time is done."""
        now = self._clock()
        if self._ended is not None:
            return
        if self._begun is None:
            if now - self._created >= self._load.warm_up_seconds:
                self._begun = now
                self._say("measuring")
            return
        self._taken.append(now - begun)
        if now - self._begun >= self._load.seconds:
            self._ended = now
            self._say("measured")

    def report(self) -> None:
        """Says the figures of a window that is over."""
        if self._begun is None or self._ended is None:
            raise RuntimeError("The time measured is not over.")
        ordered = sorted(self._taken)
        self._say(
            "result",
            tasks=len(ordered),
            seconds=self._ended - self._begun,
            p50_ms=percentile(ordered, 0.5) * 1e3,
            p99_ms=percentile(ordered, 0.99) * 1e3,
        )


async def run(load: Load, task: Callable[[int], Awaitable[None]]) -> None:
    """Runs `task` with a new number each time, so many at once, and reports."""
    window = Window(load)

    async def caller() -> None:
        while not window.over:
            number, begun = window.begin()
            await task(number)
            window.end(begun)

    async with asyncio.TaskGroup() as callers:
        for _ in range(load.in_flight):
            callers.create_task(caller())
    window.report()
