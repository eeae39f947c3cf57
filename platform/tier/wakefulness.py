"""Keeps idle processors of this machine from sleeping while a mesh is busy.

A call goes from process to process, and each that is woken waits until its processor is: a tenth
of a millisecond and more in a virtual machine, whose processors sleep by leaving it. Linux lets
idle processors look for work instead for as long as somebody holds its device open with a latency
of 0 (PM QoS, Documentation/power/pm_qos_interface.rst). Whoever dies holds it no more.
"""

import asyncio
import os
import struct
import time
from collections.abc import Callable, Generator, Iterable
from contextlib import contextmanager, suppress
from pathlib import Path
from types import TracebackType
from typing import Final, Self

DEVICE: Final = Path("/dev/cpu_dma_latency")
# The longest that waking up may take.
_LATENCY_MICROS: Final = struct.pack("i", 0)
_LOOK_SECONDS: Final = 1.0
# Of the time of all processors; a mesh that does nothing takes a fifth of it on two of them.
_BUSY_SHARE: Final = 0.05
# For how long a mesh that is not busy may be again at any moment.
_REST_SECONDS: Final = 5.0


def may_keep_awake(device: Path = DEVICE) -> bool:
    """Whether this process may keep the processors awake: root may, where Linux has the device."""
    return os.access(device, os.W_OK)


def keeps_awake(pid: int, device: Path = DEVICE) -> bool:
    """Whether a process does; False where this one may not know."""
    try:
        files = os.listdir(f"/proc/{pid}/fd")
    except OSError:
        return False
    return any(_target(pid, each) == str(device) for each in files)


@contextmanager
def awake() -> Generator[None]:
    """Keeps the processors awake meanwhile, where this process may."""
    with Wakefulness(DEVICE) as wakefulness:
        wakefulness.hold()
        yield


class Wakefulness:
    """Keeps the processors awake from `hold` to `release`. A context manager that releases."""

    def __init__(self, device: Path) -> None:
        self._device: Final = device
        self._held: int | None = None

    def hold(self) -> None:
        """Does nothing where this process may not, or does so already."""
        if self._held is not None:
            return
        with suppress(OSError):
            held = os.open(self._device, os.O_WRONLY | os.O_CLOEXEC)
            try:
                os.write(held, _LATENCY_MICROS)
            except OSError:
                os.close(held)
                raise
            self._held = held

    def release(self) -> None:
        """Lets them sleep again."""
        if self._held is not None:
            os.close(self._held)
            self._held = None

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self.release()


async def keep_awake_while_busy(
    pids: Callable[[], Iterable[int]],
    *,
    device: Path = DEVICE,
    look_seconds: float = _LOOK_SECONDS,
    rest_seconds: float = _REST_SECONDS,
) -> None:
    """Returns never. Keeps the processors awake while these processes are busy, and a bit longer.

    They are busy while they use a twentieth of what the machine has. So a large machine is not
    kept awake for a small mesh.

    Args:
        pids: The processes, asked for anew each time.
        device: Where Linux is told.
        look_seconds: Between two looks at what they use.
        rest_seconds: How long they are not busy before the processors may sleep.
    """
    busy_share = _BUSY_SHARE * (os.cpu_count() or 1)
    with Wakefulness(device) as wakefulness:
        used, looked = _processor_seconds(pids()), time.monotonic()
        busy_until = looked
        while True:
            await asyncio.sleep(look_seconds)
            before, began = used, looked
            used, looked = _processor_seconds(pids()), time.monotonic()
            # Who is new, or has its pid from one that is gone, says nothing yet.
            spent = sum(max(0.0, now - before.get(pid, now)) for pid, now in used.items())
            if spent >= busy_share * (looked - began):
                busy_until = looked + rest_seconds
                wakefulness.hold()
            elif looked >= busy_until:
                wakefulness.release()


def _processor_seconds(pids: Iterable[int]) -> dict[int, float]:
    used: dict[int, float] = {}
    for pid in pids:
        # Who has gone has no clock any more.
        with suppress(OSError):
            # The clock of a process, named as clock_getcpuclockid(3) does.
            used[pid] = time.clock_gettime((~pid << 3) | 2)
    return used


def _target(pid: int, file: str) -> str:
    try:
        return os.readlink(f"/proc/{pid}/fd/{file}")
    except OSError:
        # Closed by now.
        return ""
