"""Single calls that come at the same time are done in one go, as those of a batch are."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from contextvars import Context
from typing import Final, Generic, TypeVar

from meshkit.errors import MeshError

Call = TypeVar("Call")
Outcome = TypeVar("Outcome")

# What the counters take at a time.
_MOST_TOGETHER: Final = 256
# So many are under way before one waits for company.
_MOST_UNDER_WAY: Final = 2
# What takes longer waits for somebody else, such as the ledger: it holds up nobody.
_RELEASE_SECONDS: Final = 0.01


class Together(Generic[Call, Outcome]):
    """Does one call as `act` does many.

    A call goes at once, by itself, while few are under way. Otherwise it goes with
    the next, together with all that came in the meantime.
    """

    def __init__(
        self, act: Callable[[Sequence[Call]], Awaitable[Sequence[Outcome | MeshError]]]
    ) -> None:
        """`act` does calls, and answers in order; what it raises, it raises to all of them."""
        self._act: Final = act
        self._waiting: list[tuple[Call, asyncio.Future[Outcome | MeshError]]] = []
        self._under_way: Final[set[object]] = set()
        self._tasks: Final[set[asyncio.Task[None]]] = set()

    async def __call__(self, calls: Sequence[Call]) -> Sequence[Outcome | MeshError]:
        """The outcomes of these calls, in order."""
        if len(self._under_way) < _MOST_UNDER_WAY:
            return await self._do(calls)
        loop = asyncio.get_running_loop()
        answers = [loop.create_future() for _ in calls]
        self._waiting += zip(calls, answers, strict=True)
        return await asyncio.gather(*answers)

    async def _do(self, calls: Sequence[Call]) -> Sequence[Outcome | MeshError]:
        turn = object()
        self._under_way.add(turn)
        timer = asyncio.get_running_loop().call_later(_RELEASE_SECONDS, self._release, turn)
        try:
            return await self._act(calls)
        finally:
            timer.cancel()
            self._release(turn)

    def _release(self, turn: object) -> None:
        self._under_way.discard(turn)
        if self._waiting and len(self._under_way) < _MOST_UNDER_WAY:
            some, self._waiting = self._waiting[:_MOST_TOGETHER], self._waiting[_MOST_TOGETHER:]
            # In a context of its own: they are of many callers, with as many deadlines.
            task = asyncio.get_running_loop().create_task(self._do_waiting(some), context=Context())
            self._tasks.add(task)
            task.add_done_callback(self._tasks.discard)

    async def _do_waiting(
        self, some: Sequence[tuple[Call, asyncio.Future[Outcome | MeshError]]]
    ) -> None:
        wanted = [each for each in some if not each[1].done()]
        try:
            outcomes = await self._do([call for call, _ in wanted])
        except BaseException as error:
            for _, answer in wanted:
                if not answer.done():
                    answer.set_exception(error)
            if not isinstance(error, Exception):
                raise
            return
        for (_, answer), outcome in zip(wanted, outcomes, strict=True):
            if not answer.done():
                answer.set_result(outcome)
