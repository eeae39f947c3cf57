"""Batches that follow each other on one stream.

To begin and to end a call costs several times what a message on an open stream
costs. A stream takes in batches for a moment only: the next one goes to another
instance of the peer, and a peer that ends is soon left alone.
"""

import asyncio
from collections.abc import AsyncGenerator, Callable, Sequence
from typing import Any, Final, Generic, TypeVar

from meshkit import urgency
from meshkit.batch import Item
from meshkit.errors import (
    DeadlineExceeded,
    DependencyUnavailable,
    NotImplementedYet,
    from_status,
)
from meshkit.rpc_channel import FIRST_PAUSE_SECONDS, LONGEST_PAUSE_SECONDS, Unreached
from meshwire.posted_requests import PostedRequests

ItemType = TypeVar("ItemType", bound=Item)

_OPEN_SECONDS: Final = 0.5
# More than one, so that several instances of a peer work at the same time.
_MOST_OPEN: Final = 4
# What a message holds, with room for one item more below what a peer takes. An item
# that is larger goes on a stream of its own: it may be refused, which ends its stream.
_LARGE_BYTES: Final = 1024 * 1024


class BatchStream(Generic[ItemType]):
    """Sends the batches of a coalescer over a few streams that others soon follow."""

    def __init__(
        self,
        call: Callable[..., Any],
        message: Callable[..., Any],
        *,
        who: str,
        timeout_seconds: float,
        withdraws: bool = False,
        open_seconds: float = _OPEN_SECONDS,
    ) -> None:
        """`call` is a stub's method from a stream to a stream, `message` makes its requests.

        Its answers have `results`, and those `index`, `response` and `error`, as
        all batch forms of the contracts do. `who` is the peer, for errors. A
        batch that is not answered within `timeout_seconds` fails. `withdraws`:
        the peer is told of items that nobody waits for any more. `open_seconds`:
        how long a stream takes in batches.
        """
        self._call: Final = call
        self._message: Final = message
        self._who: Final = who
        self._timeout_seconds: Final = timeout_seconds
        self._withdraws: Final = withdraws
        self._open_seconds: Final = open_seconds
        # Urgent ones, and others.
        self._open: dict[bool, list[_Stream]] = {True: [], False: []}
        # By the numbers of the items that are on their way.
        self._batches: Final[dict[int, _Batch]] = {}

    async def send(self, items: Sequence[tuple[int, ItemType]]) -> AsyncGenerator[tuple[int, Any]]:
        """Sends a coalescer's numbered items, and gives each answer or error.

        Raises DeadlineExceeded.
        """
        loop = asyncio.get_running_loop()
        begun, pause = loop.time(), FIRST_PAUSE_SECONDS
        batch = _Batch()
        self._batches.update((number, batch) for number, _ in items)
        self._post(batch, items)
        timer = loop.call_later(self._timeout_seconds, self._be_too_late, batch)
        try:
            while batch.unanswered or batch.postponed:
                await batch.arrived.wait()
                again: list[int] = []
                for number, outcome in batch.take():
                    if isinstance(outcome, Unreached) and self._may_wait(
                        outcome, loop.time() + pause - begun
                    ):
                        again.append(number)
                    else:
                        yield number, outcome
                if again:
                    wanted = set(again)
                    batch.postponed.update(each for each in items if each[0] in wanted)
                    loop.call_later(pause, self._post_postponed, batch)
                    pause = min(2 * pause, LONGEST_PAUSE_SECONDS)
        finally:
            timer.cancel()
            for number, _ in items:
                batch.withdraw(number)
                self._batches.pop(number, None)

    def withdraw(self, number: int) -> None:
        """Nobody waits any more for that item: the peer may stop what it does for it."""
        batch = self._batches.get(number)
        if batch is not None:
            batch.withdraw(number)

    def _may_wait(self, failure: Unreached, seconds: float) -> bool:
        """Whether an item is sent again that has been on its way for that long."""
        return seconds < min(failure.patience_seconds, self._timeout_seconds / 2)

    def _post_postponed(self, batch: "_Batch") -> None:
        items = tuple(batch.postponed.items())
        batch.postponed.clear()
        self._post(batch, items)

    def _post(self, batch: "_Batch", items: Sequence[tuple[int, ItemType]]) -> None:
        message: list[tuple[int, ItemType]] = []
        room = _LARGE_BYTES
        for each in items:
            size = each[1].request.ByteSize()
            if size > _LARGE_BYTES:
                alone = self._new()
                alone.post(batch, [each])
                alone.retire()
                continue
            if size > room:
                self._present().post(batch, message)
                message, room = [], _LARGE_BYTES
            message.append(each)
            room -= size
        if message:
            self._present().post(batch, message)

    def _present(self) -> "_Stream":
        """The stream that has the least to do; a new one where all have something."""
        urgent = urgency.is_urgent()
        present = self._open[urgent] = [each for each in self._open[urgent] if not each.retired]
        idlest = min(present, key=lambda each: each.unanswered, default=None)
        if idlest is None or (idlest.unanswered and len(present) < _MOST_OPEN):
            idlest = self._new()
            present.append(idlest)
            asyncio.get_running_loop().call_later(self._open_seconds, idlest.retire)
        return idlest

    def _new(self) -> "_Stream":
        seconds = self._open_seconds + self._timeout_seconds
        return _Stream(self._call, self._message, self._who, seconds, self._withdraws)

    def _be_too_late(self, batch: "_Batch") -> None:
        batch.fail(
            DeadlineExceeded(
                f"{self._who} did not answer within {self._timeout_seconds:.3g} seconds.",
                metadata={"limit": "call", "dependency": self._who},
            )
        )


class _Batch:
    """What came of the items of one batch."""

    __slots__ = ("_failure", "_ready", "arrived", "postponed", "unanswered")

    def __init__(self) -> None:
        self.arrived: Final = asyncio.Event()
        # Where each of them is on its way, by its number.
        self.unanswered: Final[dict[int, _Stream]] = {}
        # What reached nobody and is sent again in a moment.
        self.postponed: Final[dict[int, Any]] = {}
        self._ready: list[tuple[int, Any]] = []
        self._failure: BaseException | None = None

    def answer(self, number: int, outcome: Any) -> None:
        del self.unanswered[number]
        self._ready.append((number, outcome))
        self.arrived.set()

    def withdraw(self, number: int) -> None:
        stream = self.unanswered.pop(number, None)
        if stream is not None:
            stream.withdraw(number)
        if self.postponed.pop(number, None) is not None or stream is not None:
            self.arrived.set()

    def fail(self, failure: BaseException) -> None:
        self._failure = failure
        self.arrived.set()

    def take(self) -> list[tuple[int, Any]]:
        """What came since the last time; raises what everything failed with."""
        self.arrived.clear()
        ready, self._ready = self._ready, []
        if self._failure is not None and not ready:
            raise self._failure
        if self._failure is not None:
            self.arrived.set()
        return ready


class _Stream:
    """One stream, from its first batch to its last answer."""

    def __init__(
        self,
        call: Callable[..., Any],
        message: Callable[..., Any],
        who: str,
        timeout: float,
        withdraws: bool,
    ) -> None:
        self.retired = False
        self._message: Final = message
        self._who: Final = who
        self._withdraws: Final = withdraws
        self._requests: Final = PostedRequests()
        self._batches: Final[dict[int, _Batch]] = {}
        self._answers: Final = call(self._requests, timeout=timeout)
        self._reader: Final = asyncio.get_running_loop().create_task(self._read())

    @property
    def unanswered(self) -> int:
        """Items that wait for their answer."""
        return len(self._batches)

    def post(self, batch: _Batch, items: Sequence[tuple[int, Item]]) -> None:
        """Sends items of a batch in one message, under the coalescer's numbers."""
        request = self._message()
        places = request.items
        for number, item in items:
            batch.unanswered[number] = self
            self._batches[number] = batch
            place = places.add()
            # Copies of memory; as arguments they would be encoded and read again.
            place.context.CopyFrom(item.context)
            place.context.index = number
            place.request.CopyFrom(item.request)
        self._requests.post(request)

    def withdraw(self, number: int) -> None:
        """Waits no more for an item."""
        if self._batches.pop(number, None) is not None and self._withdraws:
            self._requests.post(self._message(withdrawn=[number]))
        self._end_if_done()

    def retire(self) -> None:
        """Takes in no more batches; ends when all is answered."""
        self.retired = True
        self._end_if_done()

    def _end_if_done(self) -> None:
        # Not before all is answered: until then an item may be withdrawn.
        if self.retired and not self._batches:
            self._requests.end()

    async def _read(self) -> None:
        failure: Exception = DependencyUnavailable(
            f"{self._who} ended the stream before it had answered.",
            metadata={"dependency": self._who},
        )
        try:
            async for some in self._answers:
                for result in some.results:
                    batch = self._batches.pop(result.index, None)
                    if batch is not None:
                        failed = result.HasField("error")
                        batch.answer(
                            result.index, from_status(result.error) if failed else result.response
                        )
                self._end_if_done()
        except NotImplementedYet:
            # Of the whole stream: amid an upgrade a peer of the version before knows no such
            # call, and another one, or its successor, does.
            failure = DependencyUnavailable(
                f"{self._who} is of a version that does not serve this call yet.",
                metadata={"dependency": self._who},
            )
        except Exception as error:
            failure = error
        finally:
            unanswered = tuple(self._batches.items())
            self._batches.clear()
            for number, batch in unanswered:
                batch.answer(number, failure)
            self.retire()
