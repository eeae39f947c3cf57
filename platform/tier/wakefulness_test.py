"""When processors are kept awake, by what is held open."""

import asyncio
import os
import signal
import subprocess
import sys
from collections.abc import AsyncGenerator, Generator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest

from meshtest.eventually import eventually
from tier.wakefulness import Wakefulness, keep_awake_while_busy, keeps_awake, may_keep_awake

_LOOK_SECONDS = 0.02
_REST_SECONDS = 0.2


@pytest.fixture(autouse=True)
def two_processors(monkeypatch: pytest.MonkeyPatch) -> None:
    """Of which a process that computes has more than a twentieth, as it has not of very many."""
    monkeypatch.setattr(os, "cpu_count", lambda: 2)


@pytest.fixture
def device(tmp_path: Path) -> Path:
    """A file in the device's place, which only root may open."""
    path = tmp_path.resolve() / "cpu_dma_latency"
    path.touch()
    return path


@pytest.fixture
def worker() -> Generator[int]:
    """The pid of a process that computes without a pause, until it is stopped."""
    process = subprocess.Popen([sys.executable, "-c", "while True: pass"])
    try:
        yield process.pid
    finally:
        process.kill()
        process.wait()


@pytest.fixture
def resting() -> Generator[int]:
    """The pid of a process that waits for the end of its input."""
    script = "import sys; print(flush=True); sys.stdin.read()"
    with subprocess.Popen(
        [sys.executable, "-c", script], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout
        process.stdout.readline()
        yield process.pid


@pytest.fixture
def gone() -> int:
    """The pid of a process that there was."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    return process.pid


@asynccontextmanager
async def _keeping(device: Path, *pids: int) -> AsyncGenerator[None]:
    keeping = asyncio.create_task(
        keep_awake_while_busy(
            lambda: pids, device=device, look_seconds=_LOOK_SECONDS, rest_seconds=_REST_SECONDS
        )
    )
    try:
        yield
    finally:
        keeping.cancel()
        await asyncio.wait([keeping])


def _is_held(device: Path) -> bool:
    return keeps_awake(os.getpid(), device)


def test_processors_are_kept_awake_while_the_device_is_held_open(device: Path) -> None:
    """With a latency of 0 as 32 bits; and no longer than it is wanted, however it ends."""
    with Wakefulness(device) as wakefulness:
        assert not _is_held(device)
        wakefulness.hold()
        wakefulness.hold()
        assert _is_held(device)
        assert device.read_bytes() == bytes(4)
        wakefulness.release()
        wakefulness.release()
        assert not _is_held(device)
        wakefulness.hold()
    assert not _is_held(device)


def test_who_is_started_meanwhile_holds_nothing(device: Path) -> None:
    """The processors may sleep as soon as the one who holds the device lets go of it."""
    with Wakefulness(device) as wakefulness:
        wakefulness.hold()
        with subprocess.Popen(
            [sys.executable, "-c", "print(flush=True); input()"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            close_fds=False,
        ) as process:
            assert process.stdout
            process.stdout.readline()
            assert not keeps_awake(process.pid, device)
            process.communicate(b"\n")


def test_a_machine_without_the_device_is_left_as_it_is(tmp_path: Path) -> None:
    """As for whoever may not open it."""
    missing = tmp_path / "missing"
    with Wakefulness(missing) as wakefulness:
        wakefulness.hold()
        assert not _is_held(missing)
    assert not may_keep_awake(missing)


def test_who_may_open_the_device_may_keep_awake(device: Path) -> None:
    """Root, as a rule."""
    assert may_keep_awake(device)


def test_a_process_that_is_gone_keeps_nothing_awake(device: Path, gone: int) -> None:
    """Nor is it an error to ask."""
    assert not keeps_awake(gone, device)


async def test_processors_stay_awake_while_a_process_computes(device: Path, worker: int) -> None:
    """They may sleep some time after it has stopped, and not when it goes on."""
    async with _keeping(device, worker):
        await eventually(lambda: _is_held(device))
        os.kill(worker, signal.SIGSTOP)
        await eventually(lambda: not _is_held(device))
        os.kill(worker, signal.SIGCONT)
        await eventually(lambda: _is_held(device))
    assert not _is_held(device)


async def test_processors_may_sleep_while_nobody_computes(
    device: Path, worker: int, resting: int, gone: int
) -> None:
    """What rests, what other processes do, and what has gone is no work of the mesh."""
    other = device.with_name("other")
    other.touch()
    async with _keeping(device, gone, resting), _keeping(other, worker):
        # By then both have looked.
        await eventually(lambda: _is_held(other))
        await asyncio.sleep(0)
        assert not _is_held(device)


async def test_a_large_machine_is_not_kept_awake_for_a_small_mesh(
    device: Path, worker: int, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is busy is a share of all processors."""
    processors = iter((64, 2))
    monkeypatch.setattr(os, "cpu_count", lambda: next(processors))
    small = device.with_name("small")
    small.touch()
    async with _keeping(device, worker), _keeping(small, worker):
        await eventually(lambda: _is_held(small))
        await asyncio.sleep(0)
        assert not _is_held(device)
