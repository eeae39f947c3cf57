"""The event loop of a command."""

import asyncio
import signal
from collections.abc import Coroutine
from typing import Any, Final, TypeVar

import uvloop

from cli.problem import Problem

T = TypeVar("T")
_ENDING: Final = (signal.SIGTERM, signal.SIGHUP)


def run(job: Coroutine[Any, Any, T]) -> T:
    """Runs `job` to its end.

    Ctrl-C, SIGTERM and SIGHUP cancel it, so that what it started is stopped;
    they are raised as KeyboardInterrupt and as a Problem with exit code
    128 + signal once it has ended.
    """
    received: list[int] = []

    async def guarded() -> T:
        loop = asyncio.get_running_loop()
        task = asyncio.current_task()

        def end(number: int) -> None:
            received.append(number)
            if task is not None:
                task.cancel()

        for each in _ENDING:
            loop.add_signal_handler(each, end, each)
        return await job

    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        try:
            return runner.run(guarded())
        except asyncio.CancelledError:
            if not received:
                raise
            name = signal.Signals(received[0]).name
            raise Problem(f"Ended by {name}.", exit_code=128 + received[0]) from None
