"""How a process lives and ends."""

import asyncio
import gc
import signal
import sys
import traceback
from collections.abc import Awaitable, Callable, Coroutine
from contextlib import AsyncExitStack
from typing import Any, Final, NoReturn, cast

import uvloop

from meshkit.config import ConfigError
from meshkit.mesh_error import MeshError

# So many more objects than before make a collection: a few megabytes.
_GARBAGE_OBJECTS: Final = 20_000

_Job = Coroutine[Any, Any, None]


class Program:
    """A running process: siblings that live side by side, and what they depend on.

    Dependencies go onto `stack` in the order in which they are made; they are
    closed in reverse, after every sibling has ended. The first sibling that
    fails ends the others, and the process.
    """

    def __init__(self, stack: AsyncExitStack, siblings: asyncio.TaskGroup) -> None:
        self.stack: Final = stack
        self.stopping: Final = asyncio.Event()
        self._group: Final = siblings
        self._servers: list[asyncio.Task[None]] = []
        self._others: list[asyncio.Task[None]] = []

    def start(self, job: _Job, name: str) -> None:
        """Runs a sibling; it is cancelled when the process is asked to stop."""
        self._others.append(self._group.create_task(job, name=name))

    def serve(self, job: _Job, name: str) -> None:
        """Runs a sibling that drains: it is cancelled first, and the others go on until it ended.

        Calls in flight may still need what the other siblings do.
        """
        self._servers.append(self._group.create_task(job, name=name))

    async def stop(self) -> None:
        """Ends the process in order: servers drain, siblings end, dependencies close."""
        self.stopping.set()
        for tasks in (self._servers, self._others):
            for task in tasks:
                task.cancel()
            if tasks:
                await asyncio.wait(tasks)


def run(main: Callable[[Program], Awaitable[None]]) -> NoReturn:
    """Runs `main`, and what it starts, until all of it ended or the process is told to stop.

    The exit code is 0 after SIGTERM, SIGINT or an end by itself, and 1 after a
    failure; that is told in one line where its text is meant for people, else
    with its trace. A second signal kills.
    """
    # What is imported stays: a collection need not look at it each time. And an
    # event loop makes much that is gone again before it is worth a look.
    gc.freeze()
    gc.enable()
    gc.set_threshold(_GARBAGE_OBJECTS, 20, 50)
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        code = runner.run(_live(main))
    sys.exit(code)


async def _live(main: Callable[[Program], Awaitable[None]]) -> int:
    loop = asyncio.get_running_loop()
    signals = (signal.SIGTERM, signal.SIGINT)
    stops: list[asyncio.Task[None]] = []
    try:
        async with AsyncExitStack() as stack, asyncio.TaskGroup() as siblings:
            program = Program(stack, siblings)

            async def begin() -> None:
                await main(program)

            program.start(begin(), "main")

            def on_signal() -> None:
                for each in signals:
                    loop.remove_signal_handler(each)
                stops.append(loop.create_task(program.stop(), name="stop"))

            for each in signals:
                loop.add_signal_handler(each, on_signal)
    except BaseExceptionGroup as group:
        _tell(_first(group))
        return 1
    except Exception as error:
        _tell(error)
        return 1
    return 0


def _first(error: BaseException) -> BaseException:
    while isinstance(error, BaseExceptionGroup):
        group = cast(BaseExceptionGroup[BaseException], error)
        error = group.exceptions[0]
    return error


def _tell(error: BaseException) -> None:
    if isinstance(error, MeshError | ConfigError):
        print(f"error: {error}", file=sys.stderr)
    else:
        traceback.print_exception(error)
