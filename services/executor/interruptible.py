"""Work that can be broken off from outside, though it has no asyncio task of its own."""

import asyncio
from enum import Enum, auto
from typing import Any


class Reason(Enum):
    """Why work was broken off."""

    TIME_IS_UP = auto()
    CANCEL_WAS_ASKED_FOR = auto()
    # Nobody broke the work off: something that it waited for was cancelled.
    UNKNOWN = auto()


class Interruptible:
    """What the present asyncio task does from here until `caught` or `close`."""

    __slots__ = ("_count", "_reason", "_task")

    def __init__(self) -> None:
        self._task: asyncio.Task[Any] | None = asyncio.current_task()
        self._reason = Reason.UNKNOWN
        self._count = 0

    def interrupt(self, reason: Reason) -> None:
        """Raises CancelledError in the work. Of several reasons the first one counts."""
        if self._task is None:
            return
        if not self._count:
            self._reason = reason
        self._count += 1
        self._task.cancel()

    def caught(self) -> Reason | None:
        """Why the CancelledError was raised that was just caught; ends the work.

        None where the whole task was cancelled: then it is to be raised on.
        """
        task, self._task = self._task, None
        assert task is not None, "work ends once"
        for _ in range(self._count):
            task.uncancel()
        return None if task.cancelling() else self._reason

    def close(self) -> None:
        """Ends the work: from now on nothing is broken off."""
        self._task = None
