"""Time limits: asyncio.timeout at a third of its price, which holds in every Python.

Before Python 3.11.4 asyncio's own ends a block of a task that is being cancelled, such as one
that tidies up, with CancelledError where its time is over.
"""

import asyncio
from types import TracebackType
from typing import Final


class within:  # noqa: N801 - it reads as a statement
    """Ends the block with TimeoutError after that many seconds."""

    __slots__ = ("_cancels", "_seconds", "_task", "_timer", "ran_out")

    def __init__(self, seconds: float) -> None:
        """The time begins with the block."""
        self._seconds: Final = seconds
        self._task: asyncio.Task[object]
        self._cancels: int
        self._timer: asyncio.TimerHandle
        # Whether it was this limit by which the block ended.
        self.ran_out = False

    def __enter__(self) -> None:
        task = asyncio.current_task()
        assert task is not None, "there is a task where something is awaited"
        self._task = task
        self._cancels = task.cancelling()
        self._timer = asyncio.get_running_loop().call_later(self._seconds, self._run_out)

    def __exit__(
        self,
        kind: type[BaseException] | None,
        error: BaseException | None,
        trace: TracebackType | None,
    ) -> None:
        self._timer.cancel()
        if self.ran_out:
            # Somebody else may have cancelled the task as well, who is not to be told of a limit.
            self.ran_out = self._task.uncancel() <= self._cancels
            if self.ran_out and isinstance(error, asyncio.CancelledError):
                raise TimeoutError from error

    def _run_out(self) -> None:
        self.ran_out = True
        self._task.cancel()
