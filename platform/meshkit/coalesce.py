"""Concurrent calls that travel together, without waiting for company.

A call goes at once while few batches are on their way; otherwise it goes with
the next batch, together with all that came in the meantime. So calls cost
little when there are many, and wait for nobody when there are few.
"""

import asyncio
import itertools
from collections import deque
from collections.abc import AsyncIterator, Callable, Sequence
from contextvars import Context
from functools import partial
from typing import Final, Generic, TypeVar

from meshkit import identity, urgency
from meshkit.errors import Internal, MeshError, QueueFull, ShuttingDown

Q = TypeVar("Q")
A = TypeVar("A")

# A peer is slow, and not only busy, that takes this many times `release_seconds`.
_SLOW: Final = 10

Send = Callable[[Sequence[tuple[int, Q]]], AsyncIterator[tuple[int, A | MeshError]]]


class Coalescer(Generic[Q, A]):
    """Turns single calls into batches."""

    def __init__(
        self,
        send: "Send[Q, A]",
        *,
        max_items: int = 64,
        max_in_flight: int = 2,
        max_waiting: int = 4096,
        release_seconds: float = 0.05,
        withdraw: Callable[[int], None] | None = None,
    ) -> None:
        """`send` sends numbered items, and gives each answer with its number, in any order.

        It runs under an identity that owns nothing and without a deadline: each
        item carries its own. No number is used twice.

        `max_items`: in a batch. `max_in_flight`: batches on their way; one counts
        until its first answer or `release_seconds`, since a quick call is not to
        wait behind slow ones. (Of a busy machine the first answer takes a while:
        batches that were released sooner would grow smaller the busier it is, and
        keep it so.) After a batch that took ten times that, a tenth of it: nobody
        is to wait for the company of those who call slow peers. `max_waiting`: calls
        without an answer, beyond which QueueFull is raised. `withdraw`: is told of
        each item on its way whose caller was cancelled; it need not be answered.
        """
        self._send: Final = send
        self._max_items: Final = max_items
        self._max_in_flight: Final = max_in_flight
        self._max_waiting: Final = max_waiting
        self._release_seconds: Final = release_seconds
        self._withdraw: Final = withdraw
        self._numbers: Final = itertools.count()
        # By the first answer to the last batch.
        self._is_slow = False
        # What is urgent travels apart from what is not.
        self._waiting: Final[dict[bool, deque[tuple[Q, asyncio.Future[A]]]]] = {
            True: deque(),
            False: deque(),
        }
        # Which of them goes next, where both could.
        self._turn = True
        self._batches: set[asyncio.Task[None]] = set()
        self._unanswered = 0
        self._on_their_way = 0
        self._scheduled = False
        self._closed = False

    async def call(self, item: Q) -> A:
        """The answer to `item`; raises what it was answered with if that is an error."""
        if self._closed:
            raise ShuttingDown("The service is shutting down.")
        if self._unanswered >= self._max_waiting:
            raise QueueFull(
                f"{self._unanswered} calls wait for an answer already.", retry_after_seconds=0.1
            )
        answer: asyncio.Future[A] = asyncio.get_running_loop().create_future()
        self._waiting[urgency.is_urgent()].append((item, answer))
        self._unanswered += 1
        self._schedule()
        try:
            return await answer
        finally:
            self._unanswered -= 1

    async def close(self) -> None:
        """Waits for the batches that are out; calls that still wait get ShuttingDown."""
        self._closed = True
        for waiting in self._waiting.values():
            while waiting:
                _, answer = waiting.popleft()
                if not answer.done():
                    answer.set_exception(ShuttingDown("The service is shutting down."))
        if self._batches:
            await asyncio.wait(set(self._batches))

    def _schedule(self) -> None:
        # After this turn of the loop: calls made in the same turn go together.
        if not self._scheduled and self._on_their_way < self._max_in_flight:
            self._scheduled = True
            asyncio.get_running_loop().call_soon(self._go)

    def _go(self) -> None:
        self._scheduled = False
        while self._on_their_way < self._max_in_flight:
            urgent = self._turn if self._waiting[self._turn] else not self._turn
            self._turn = not urgent
            batch = self._take(self._waiting[urgent])
            if not batch:
                if any(self._waiting.values()):
                    continue
                return
            self._on_their_way += 1
            # In a context of its own: the identity and the deadline of whoever
            # happened to call first are not those of the batch.
            task = asyncio.get_running_loop().create_task(
                self._run(batch, urgent), context=Context()
            )
            self._batches.add(task)
            task.add_done_callback(self._batches.discard)

    def _take(
        self, waiting: deque[tuple[Q, "asyncio.Future[A]"]]
    ) -> list[tuple[Q, "asyncio.Future[A]"]]:
        batch: list[tuple[Q, asyncio.Future[A]]] = []
        while waiting and len(batch) < self._max_items:
            item, answer = waiting.popleft()
            if not answer.done():  # else its caller was cancelled
                batch.append((item, answer))
        return batch

    async def _run(self, batch: Sequence[tuple[Q, "asyncio.Future[A]"]], urgent: bool) -> None:
        items = [(next(self._numbers), item) for item, _ in batch]
        answers = {number: answer for (number, _), (_, answer) in zip(items, batch, strict=True)}
        if self._withdraw is not None:
            for number, answer in answers.items():
                answer.add_done_callback(partial(self._unwanted, number))
        loop = asyncio.get_running_loop()
        begun = loop.time()
        arrived = _Once(self._arrived)
        release_seconds = self._release_seconds / (_SLOW if self._is_slow else 1)
        timer = loop.call_later(release_seconds, arrived)
        is_first = True
        failure: BaseException | None = None
        try:
            identity.adopt(identity.BATCH)
            urgency.adopt(urgent)
            async for number, outcome in self._send(items):
                _settle(answers.pop(number, None), outcome)
                if is_first:
                    is_first = False
                    self._is_slow = loop.time() - begun > _SLOW * self._release_seconds
                    arrived()
        except BaseException as error:
            failure = error
            if not isinstance(error, Exception):
                raise
        finally:
            timer.cancel()
            for answer in answers.values():
                if isinstance(failure, asyncio.CancelledError):
                    answer.cancel()
                else:
                    _settle(answer, failure or Internal("The batch ended without this answer."))
            arrived()

    def _unwanted(self, number: int, answer: "asyncio.Future[A]") -> None:
        if answer.cancelled() and self._withdraw is not None:
            self._withdraw(number)

    def _arrived(self) -> None:
        self._on_their_way -= 1
        if any(self._waiting.values()):
            self._schedule()


class _Once:
    """Calls a function the first time that it is called itself."""

    __slots__ = ("_function",)

    def __init__(self, function: Callable[[], None]) -> None:
        self._function: Callable[[], None] | None = function

    def __call__(self) -> None:
        function, self._function = self._function, None
        if function is not None:
            function()


def _settle(answer: "asyncio.Future[A] | None", outcome: "A | BaseException") -> None:
    if answer is None or answer.done():
        return
    if isinstance(outcome, BaseException):
        answer.set_exception(outcome)
    else:
        answer.set_result(outcome)
