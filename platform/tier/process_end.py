"""When a process ends, and how that is told."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from typing import Protocol


class Process(Protocol):
    """As subprocess.Popen, where it matters."""

    @property
    def pid(self) -> int:
        """Its number."""
        ...

    def poll(self) -> int | None:
        """The exit code, negative for a signal; None while it runs."""
        ...

    def wait(self) -> int:
        """The exit code, once there is one."""
        ...


async def ended(process: Process) -> int:
    """The exit code, once there is one; no thread and no polling."""
    if (code := process.poll()) is not None:
        # It is reaped, and its pid may be another process's by now.
        return code
    loop = asyncio.get_running_loop()
    end = loop.create_future()
    descriptor = os.pidfd_open(process.pid)
    loop.add_reader(descriptor, lambda: end.done() or end.set_result(None))
    try:
        await end
    finally:
        loop.remove_reader(descriptor)
        os.close(descriptor)
    return process.wait()


def told(code: int) -> str:
    """Why it ended, by its exit code."""
    return f"killed by {signal.Signals(-code).name}" if code < 0 else f"exit code {code}"


def obituary(why: str) -> str:
    """Why it ended, and when: now."""
    return f"{why} at {datetime.now(UTC):%Y-%m-%dT%H:%M:%SZ}"
