"""Following one task: what its log has, then what is new, without gap or repeat."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from typing import Final, Self

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import StoredMessage, Subscription
from meshkit.errors import CorruptData, QueueFull, TaskNotFound
from meshkit.time_limit import within
from tasklog import lifecycle, subjects
from tasklog.task_log import Entry, TaskLog

# After this long without an event a watcher looks for itself: what is
# published again after storing is not guaranteed to arrive.
_LOOK_AFTER_SECONDS: Final = 5.0
# What is held for a watcher that reads slowly, or not at all: new events, none
# of them above 64 KiB, and a page of the log, large content brought back.
_WAITING_EVENTS: Final = 32
_PAGE_EVENTS: Final = 64
_PAGE_BYTES: Final = 256 * 1024


class Following:
    """One task, as it goes on: an async context manager that listens while it is open.

    Of what the same process stores or reads after that, no event is missed. A
    reader may be slow, or stop for as long as it likes: a page of the log and a few
    new events are held for it, and the rest stays in the log.
    """

    def __init__(
        self, log: TaskLog, tenant: str, task_id: str, *, tokens: Sequence[str] = ("*",)
    ) -> None:
        """`tokens`: the last ones of the subjects whose events are wanted."""
        self._log: Final = log
        self._tenant: Final = tenant
        self._task_id: Final = task_id
        self._tokens: Final = tokens
        self._live: Subscription
        # The last event that was given out, by its number in the task.
        self._seen = 0
        # Where the log is read next, by stream sequence.
        self._position = 1
        self._exists = False
        self._ended = False

    async def __aenter__(self) -> Self:
        self._live = await self._listen()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._live.close()

    async def events(
        self, *, after_sequence: int = 0, first: Entry | None = None
    ) -> AsyncGenerator[TaskEvent]:
        """Every event after `after_sequence`, until the task has ended.

        An event whose large content is lost has the reference alone.

        Args:
            after_sequence: The last event that is not wanted, by its number in the task.
            first: The task's first event, where it was stored since this listens:
                the log need not be read then.

        Raises:
            TaskNotFound: There is no such task.
        """
        self._seen = after_sequence
        if first is not None:
            if self._advance(first):
                yield first.event
            async for event in self._present():
                yield event
        while not self._ended:
            async for event in self._past():
                yield event
            if not self._exists:
                name = subjects.task_name(self._tenant, self._task_id)
                raise TaskNotFound(f"There is no task {name!r}.")
            async for event in self._present():
                yield event

    async def end(self) -> TaskEvent:
        """The event with which a task ends that had not when this began to listen.

        Raises:
            CorruptData: It has ended, and what it ended with is lost.
            TaskNotFound: There is no such task.
        """
        while True:
            message = await self._next()
            try:
                entry = (
                    await self._log.last(self._tenant, self._task_id)
                    if message is None
                    else await self._log.entry(message)
                )
            except CorruptData:
                # What a task has lost that goes on is not its end.
                if await self._has_ended():
                    raise
                continue
            if entry is None:
                name = subjects.task_name(self._tenant, self._task_id)
                raise TaskNotFound(f"There is no task {name!r}.")
            if entry.event.status.state in lifecycle.TERMINAL:
                return entry.event

    async def _has_ended(self) -> bool:
        """Whether the task has, as its log is stored."""
        ends = await self._log.ends(self._tenant, self._task_id)
        return ends is not None and ends[1].event.status.state in lifecycle.TERMINAL

    async def _past(self) -> AsyncGenerator[TaskEvent]:
        """What the log has from here on, read page by page."""
        more = True
        while more:
            page, more = await self._page()
            for entry in page:
                if self._advance(entry):
                    yield entry.event

    async def _page(self) -> tuple[list[Entry], bool]:
        """Some events, and whether there may be more."""
        page: list[Entry] = []
        size_bytes = 0
        async with aclosing(
            self._log.read(
                self._tenant,
                self._task_id,
                from_stream_sequence=self._position,
                batch=_PAGE_EVENTS,
                lenient=True,
            )
        ) as entries:
            async for entry in entries:
                page.append(entry)
                size_bytes += entry.event.ByteSize()
                if len(page) == _PAGE_EVENTS or size_bytes >= _PAGE_BYTES:
                    return page, True
        return page, False

    async def _present(self) -> AsyncGenerator[TaskEvent]:
        """New events in order; ends at a gap or a silence, when the log has to be read."""
        while not self._ended:
            message = await self._next()
            if message is None:
                return
            try:
                entry = await self._log.entry(message)
            except CorruptData:
                return  # the log is read with more patience
            if entry.event.sequence > self._seen + 1:
                return
            if self._advance(entry):
                yield entry.event

    async def _next(self) -> StoredMessage | None:
        """What comes next; None after a silence, or where the reader fell behind."""
        try:
            with within(_LOOK_AFTER_SECONDS):
                return await anext(self._live)
        except TimeoutError:
            return None
        except QueueFull:
            # The subscription stands before the log is read, so that nothing falls
            # between the two; what arrives twice is passed over.
            await self._live.close()
            self._live = await self._listen()
            return None

    async def _listen(self) -> Subscription:
        return await self._log.listen(
            self._tenant, self._task_id, tokens=self._tokens, max_waiting=_WAITING_EVENTS
        )

    def _advance(self, entry: Entry) -> bool:
        """Goes past an event of the log; whether the reader has not seen it yet."""
        if entry.stream_sequence < self._position:
            return False
        is_new = entry.event.sequence > self._seen
        self._seen = max(self._seen, entry.event.sequence)
        self._position = entry.stream_sequence + 1
        self._exists = True
        self._ended = entry.event.status.state in lifecycle.TERMINAL
        return is_new
