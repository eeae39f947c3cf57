"""One audit: reads the log once, then the stores, then again what raised a doubt."""

from collections import Counter
from collections.abc import AsyncGenerator, Callable, Mapping, Sequence
from contextlib import aclosing
from dataclasses import replace
from typing import Final, Protocol

from audit.collector import Collector
from audit.entry import Entry
from audit.examination import Examination
from audit.finding import Finding
from audit.histories import Histories
from audit.report import Report
from meshkit.clock import Clock
from tasklog import lifecycle

# How many events pass between two words about how far it got.
_TELL_EVERY: Final = 50_000
# How many pass until the examinations may catch up.
_CATCH_UP_EVERY: Final = 500

# How many events were read, how far that is in the log, and how far it goes.
Progress = Callable[[int, int, int], None]


class Log(Protocol):
    """The event log, only read."""

    @property
    def passed(self) -> int: ...
    def stream_of(self, tenant: str) -> str: ...
    async def horizons(self) -> Mapping[str, int]: ...
    def read(self, tenant: str, horizons: Mapping[str, int]) -> AsyncGenerator[Entry | Finding]: ...


class Auditor:
    """Audits a mesh that may be running."""

    def __init__(
        self,
        *,
        log: Log,
        examinations: Sequence[Examination],
        clock: Clock,
        tenant: str,
        most_findings: int,
    ) -> None:
        """`examinations` of `tenant` alone, or of all where it is empty, as the log is read."""
        self._log: Final = log
        self._examinations: Final = examinations
        self._by_kind: Final = {
            kind: [each for each in examinations if kind in each.kinds]
            for kind in lifecycle.TRANSITIONS
        }
        self._clock: Final = clock
        self._tenant: Final = tenant
        self._found: Final = Collector(most_findings)
        self._counts: Final = Counter[str]()
        self._began_at: Final = clock.now()

    async def run(self, progress: Progress) -> Report:
        """Reads everything there is now.

        Raises:
            DependencyUnavailable: The broker or Redis does not answer.
        """
        started = self._clock.monotonic_seconds()
        horizons = await self._log.horizons()
        histories = await self._read(horizons, progress)
        for each in self._examinations:
            self._found.add(await each.finish(histories))
            self._counts.update(each.counts())
        return Report(
            horizons=horizons,
            looked_at_until=self._began_at,
            tenant=self._tenant,
            findings=tuple(self._located(each) for each in self._found.findings()),
            findings_left_off=self._found.left_off,
            tasks={
                lifecycle.state_name(state): count
                for state, count in sorted(histories.states().items())
            },
            counts=dict(self._counts),
            remarks=tuple(remark for each in self._examinations for remark in each.remarks()),
            seconds=self._clock.monotonic_seconds() - started,
        )

    def _located(self, found: Finding) -> Finding:
        if found.stream or not found.stream_sequences:
            return found
        return replace(found, stream=self._log.stream_of(found.tenant))

    async def _read(self, horizons: Mapping[str, int], progress: Progress) -> Histories:
        histories = Histories()
        events = size_bytes = 0
        async with aclosing(self._log.read(self._tenant, horizons)) as entries:
            async for entry in entries:
                if isinstance(entry, Finding):
                    self._found.add([entry])
                    continue
                for each in self._by_kind[entry.kind]:
                    each.see(entry, histories.open.get(entry.task))
                found = histories.see(entry)
                if found:
                    self._found.add(found)
                events += 1
                size_bytes += entry.size_bytes
                if events % _CATCH_UP_EVERY == 0:
                    for each in self._examinations:
                        self._found.add(await each.catch_up())
                    if events % _TELL_EVERY == 0:
                        progress(events, self._log.passed, sum(horizons.values()))
        self._counts["events"], self._counts["event_bytes"] = events, size_bytes
        return histories
