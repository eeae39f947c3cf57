"""When a process ends."""

import asyncio
import os
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
