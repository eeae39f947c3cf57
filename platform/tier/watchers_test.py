"""Tests of watching children that come and go, with real processes."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator, Callable, Sequence
from contextlib import asynccontextmanager, suppress
from pathlib import Path

import pytest

from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.events import Reporter
from tier.failures import StartFailed
from tier.watchers import Watchers

_LIVES = "import time; time.sleep(600)"


def _child(folder: Path, name: str, program: str = _LIVES, limit: int = 8) -> Child:
    async def probe() -> str | None:
        return "1"

    spec = ChildSpec(
        name=name,
        title=name,
        command=(sys.executable, "-c", program),
        working_dir=folder,
        log=folder / f"{name}.log",
        ports=(),
        probe=probe,
    )
    child = Child(spec, Reporter(lambda _: None), RestartPolicy(limit=limit))
    child.spawn()
    return child


@asynccontextmanager
async def _watching(
    watchers: Watchers, children: Sequence[Child], on_change: Callable[[], None]
) -> AsyncGenerator[asyncio.Task[None]]:
    running = asyncio.create_task(watchers.run([*children], on_change))
    await asyncio.sleep(0)
    try:
        yield running
    finally:
        running.cancel()
        with suppress(asyncio.CancelledError, StartFailed):
            await running


async def test_who_is_added_is_started_again_when_it_dies(tmp_path: Path) -> None:
    """As those are that were there from the first moment, and the change is told."""
    changes: list[str] = []
    first, second = _child(tmp_path, "first"), _child(tmp_path, "second")
    watchers = Watchers()
    async with _watching(watchers, [first], lambda: changes.append("changed")):
        watchers.add(second)
        for each in (first, second):
            await _dies_and_is_back(each)
        await eventually(lambda: len(changes) >= 2)
    await asyncio.gather(first.stop(), second.stop())


async def test_who_is_removed_stays_dead(tmp_path: Path) -> None:
    """And the others are watched on."""
    leaving, staying = _child(tmp_path, "leaving"), _child(tmp_path, "staying")
    watchers = Watchers()
    async with _watching(watchers, [leaving, staying], lambda: None):
        await watchers.remove(leaving)
        await leaving.stop()
        await _dies_and_is_back(staying)
        assert leaving.record.pid == 0
    await staying.stop()


async def test_who_cannot_be_kept_up_ends_the_watch(tmp_path: Path) -> None:
    """With what it failed with, as a mesh is to hear."""
    watchers = Watchers()
    async with _watching(watchers, [], lambda: None) as running:
        watchers.add(_child(tmp_path, "broken", "raise SystemExit(3)", limit=0))
        with pytest.raises(StartFailed, match="it died too often"):
            await asyncio.wait_for(running, 60)


async def _dies_and_is_back(child: Child) -> None:
    before = child.record.pid
    os.kill(before, signal.SIGKILL)
    await eventually(lambda: child.record.pid != before, timeout_seconds=60)
