"""Compares the open tasks with the queues that hand their messages out."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from audit import lost_tasks
from audit.entry import Entry
from audit.examination import TaskLogs
from audit.finding import Finding
from audit.histories import Histories
from audit.queue_standing import ConsumerKey, Standing
from audit.second_look import side_by_side
from audit.track import Track


class Queues(Protocol):
    """The consumers of the log."""

    def stream_of(self, tenant: str) -> str: ...
    async def standings(self) -> Mapping[ConsumerKey, Standing]: ...


class LostExamination:
    """Open tasks that nobody will act on."""

    def __init__(self, queues: Queues, logs: TaskLogs) -> None:
        self._queues: Final = queues
        self._logs: Final = logs

    @property
    def kinds(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def see(self, entry: Entry, before: Track | None) -> None:
        """Wants to see none."""

    async def catch_up(self) -> list[Finding]:
        """Has nothing to catch up with."""
        return []

    async def finish(self, histories: Histories) -> list[Finding]:
        """The queues are asked first, then the logs: see `lost_tasks.still_open`."""
        standings = await self._queues.standings()
        looked = await side_by_side(
            lost_tasks.suspects(histories.open, standings, self._queues.stream_of),
            lambda each: self._logs.of_task(each.task, after=each.last_sequence),
        )
        still = [each for each, later in looked if lost_tasks.still_open(each, later)]
        return list(lost_tasks.judge(still, standings))

    def counts(self) -> Mapping[str, int]:
        """Nothing of its own."""
        return {}

    def remarks(self) -> Sequence[str]:
        """None."""
        return ()
