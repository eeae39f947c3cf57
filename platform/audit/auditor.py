"""One audit: reads the log once, then the stores, then again what raised a doubt."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from typing import Final, Protocol

from audit import lost_tasks
from audit.collector import Collector
from audit.entry import Entry
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.histories import Histories
from audit.queue_standing import Standing
from audit.report import Report
from audit.second_look import side_by_side
from meshkit.clock import Clock
from tasklog import lifecycle

# How many events pass between two words about how far it got.
_TELL_EVERY: Final = 50_000


class Log(Protocol):
    """The event log, only read."""

    async def horizon(self) -> int: ...
    def read(self, tenant: str, horizon: int) -> AsyncGenerator[Entry | int]: ...
    async def of_task(self, task: TaskKey, *, after: int = 0) -> list[Entry]: ...
    async def standings(self) -> Mapping[str, Standing]: ...


# How many events were read, the last one's stream sequence, and the horizon.
Progress = Callable[[int, int, int], None]


class Auditor:
    """Audits a mesh that may be running."""

    def __init__(self, *, log: Log, clock: Clock, tenant: str, most_findings: int) -> None:
        """`tenant`: the one to look at; empty for all."""
        self._log: Final = log
        self._clock: Final = clock
        self._tenant: Final = tenant
        self._found: Final = Collector(most_findings)
        self._counts: Final = Counter[str]()

    async def run(self, progress: Progress) -> Report:
        """Reads everything there is now.

        Raises:
            DependencyUnavailable: The broker or Redis does not answer.
        """
        started = self._clock.monotonic_seconds()
        horizon = await self._log.horizon()
        histories = await self._read(horizon, progress)
        await self._look_for_lost(histories)
        return Report(
            horizon=horizon,
            tenant=self._tenant,
            findings=self._found.findings(),
            findings_left_off=self._found.left_off,
            tasks={
                lifecycle.state_name(state): count
                for state, count in sorted(histories.states().items())
            },
            counts=self._counts,
            remarks=(),
            seconds=self._clock.monotonic_seconds() - started,
        )

    async def _read(self, horizon: int, progress: Progress) -> Histories:
        histories = Histories()
        events = size_bytes = 0
        async with aclosing(self._log.read(self._tenant, horizon)) as entries:
            async for entry in entries:
                if isinstance(entry, int):
                    self._found.add([_unreadable(entry)])
                    continue
                found = histories.see(entry)
                if found:
                    self._found.add(found)
                events += 1
                size_bytes += entry.size_bytes
                if events % _TELL_EVERY == 0:
                    progress(events, entry.stream_sequence, horizon)
        self._counts["events"], self._counts["event_bytes"] = events, size_bytes
        return histories

    async def _look_for_lost(self, histories: Histories) -> None:
        standings = await self._log.standings()
        looked = await side_by_side(
            lost_tasks.suspects(histories.open, standings),
            lambda each: self._log.of_task(each.task, after=each.last_sequence),
        )
        still = [each for each, later in looked if lost_tasks.still_open(each, later)]
        self._found.add(lost_tasks.judge(still, standings))


def _unreadable(stream_sequence: int) -> Finding:
    return finding(
        Invariant.REPLAY,
        TaskKey("", ""),
        f"Message {stream_sequence} of the log holds no event.",
        stream_sequence,
    )
