"""Looks for the large content that the log refers to."""

from collections.abc import Mapping, Sequence
from typing import Final, Protocol

from audit import blobs
from audit.blobs import Reference
from audit.content import KINDS
from audit.entry import Entry
from audit.examination import TaskLogs
from audit.finding import Finding
from audit.histories import Histories
from audit.second_look import side_by_side
from audit.track import Track

_TOGETHER: Final = 256


class Blobs(Protocol):
    """The object store."""

    async def exists(self, reference: Reference) -> bool: ...
    async def is_whole(self, reference: Reference) -> bool: ...


class BlobExamination:
    """Content that is missing or, if everything is to be read, damaged."""

    def __init__(self, store: Blobs, logs: TaskLogs, *, read_all: bool) -> None:
        """`read_all`: read the content itself; else only see whether there is one."""
        self._look: Final = store.is_whole if read_all else store.exists
        self._logs: Final = logs
        self._wanted: list[Reference] = []
        self._count = 0
        self._size_bytes = 0

    @property
    def kinds(self) -> frozenset[str]:
        """Whatever may be large."""
        return KINDS

    def see(self, entry: Entry, before: Track | None) -> None:
        """Notes what the event keeps outside the log."""
        for each in blobs.references_of(entry):
            self._wanted.append(each)
            self._count += 1
            self._size_bytes += each.size_bytes

    async def catch_up(self) -> list[Finding]:
        """Looks for what was noted so far."""
        return await self._look_up() if len(self._wanted) >= _TOGETHER else []

    async def _look_up(self) -> list[Finding]:
        wanted, self._wanted = self._wanted, []
        missing = [each for each, there in await side_by_side(wanted, self._look) if not there]
        logs = await side_by_side(missing, lambda each: self._logs.of_task(each.task))
        return [said for each, log in logs for said in blobs.judge(each, log)]

    async def finish(self, histories: Histories) -> list[Finding]:
        """Looks for the rest."""
        return await self._look_up()

    def counts(self) -> Mapping[str, int]:
        """What was looked at."""
        return {"blobs": self._count, "blob_bytes": self._size_bytes}

    def remarks(self) -> Sequence[str]:
        """None."""
        return ()
