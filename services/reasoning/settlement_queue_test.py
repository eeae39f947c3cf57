"""What must be settled is settled, however long it takes."""

import asyncio
import io
from contextlib import suppress

import pytest

from meshkit import log
from meshkit.errors import DependencyUnavailable, Internal, InvalidField, MeshError
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.reasoning.generation import Spending
from services.reasoning.governor import Admission, Settlement, Verdict
from services.reasoning.scripted_settlement_store import ScriptedSettlementStore
from services.reasoning.settlement_queue import Item, SettlementQueue


class _Governor:
    """Settles, unless it is told to fail."""

    def __init__(self) -> None:
        self.failures: list[MeshError] = []
        self.begun = 0
        self.done: list[Item] = []
        self.hold: asyncio.Event | None = None

    async def admit(self, admission: Admission) -> Verdict:
        raise NotImplementedError

    async def settle(self, settlement: Settlement) -> int:
        self.begun += 1
        if self.hold is not None:
            await self.hold.wait()
        if self.failures:
            raise self.failures.pop(0)
        self.done.append(settlement)
        return 0

    async def release(self, spending: Spending) -> None:
        self.done.append(spending)


def _settlement(key: str) -> Settlement:
    return Settlement(Spending("acme", "user:ada", key), "offline", 1, 1)


def _queue(
    governor: _Governor,
    clock: FakeClock,
    output: io.StringIO,
    store: ScriptedSettlementStore | None = None,
) -> SettlementQueue:
    return SettlementQueue(
        governor,
        store or ScriptedSettlementStore(),
        clock=clock,
        log=log.get("test", stream=output),
        size=3,
        drain_seconds=0.05,
    )


@pytest.fixture
def clock() -> FakeClock:
    return FakeClock()


async def _stop(working: asyncio.Task[None]) -> None:
    working.cancel()
    with suppress(asyncio.CancelledError):
        await working


@pytest.mark.parametrize("failure", [DependencyUnavailable("Away."), Internal("A fault.")])
async def test_it_tries_again_until_it_succeeds(clock: FakeClock, failure: MeshError) -> None:
    """Waits grow while the governor is away or broken; nothing is lost or sent twice."""
    governor = _Governor()
    governor.failures = [failure] * 2
    queue = _queue(governor, clock, io.StringIO())
    working = asyncio.create_task(queue.run())
    queue.put(_settlement("a"))
    for wait in (0.1, 0.2):
        await eventually(lambda: clock.sleeping == 1)
        assert governor.done == []
        await clock.advance(wait)
    await eventually(lambda: governor.done == [_settlement("a")])
    await _stop(working)
    assert governor.done == [_settlement("a")]


async def test_what_the_governor_refuses_is_logged_and_left(clock: FakeClock) -> None:
    """Trying again would not help."""
    governor, output = _Governor(), io.StringIO()
    governor.failures = [InvalidField("key", "must be shorter")]
    queue = _queue(governor, clock, output)
    working = asyncio.create_task(queue.run())
    queue.put(_settlement("a"))
    queue.put(_settlement("b"))
    await eventually(lambda: governor.done == [_settlement("b")])
    await _stop(working)
    assert "settlement.refused" in output.getvalue()


async def test_the_end_of_the_process_waits_for_what_is_left(clock: FakeClock) -> None:
    """Items that were never begun, and one in the middle of being sent, are all done."""
    governor = _Governor()
    governor.hold = asyncio.Event()
    queue = _queue(governor, clock, io.StringIO())
    working = asyncio.create_task(queue.run())
    queue.put(_settlement("a"))
    await eventually(lambda: governor.begun == 1)
    queue.put(Spending("acme", "user:ada", "b"))
    working.cancel()
    governor.hold.set()
    with suppress(asyncio.CancelledError):
        await working
    assert governor.done == [_settlement("a"), Spending("acme", "user:ada", "b")]


async def test_what_cannot_be_drained_in_time_is_counted_in_the_log(clock: FakeClock) -> None:
    """The process ends all the same."""
    governor, output = _Governor(), io.StringIO()
    governor.hold = asyncio.Event()
    queue = _queue(governor, clock, output)
    working = asyncio.create_task(queue.run())
    queue.put(_settlement("a"))
    await eventually(lambda: governor.begun == 1)
    await _stop(working)
    assert "settlements.left" in output.getvalue()
    assert '"count":1' in output.getvalue()


async def test_it_is_full_at_its_size(clock: FakeClock) -> None:
    """Who looks before beginning a call sees it; what was spent is taken all the same."""
    queue = _queue(_Governor(), clock, io.StringIO())
    for key in "abc":
        assert not queue.full
        queue.put(_settlement(key))
    assert queue.full
    queue.put(_settlement("d"))


async def test_what_was_paid_is_kept_until_it_is_settled(clock: FakeClock) -> None:
    """A process that dies while the governor is away leaves it to the next one."""
    governor, store = _Governor(), ScriptedSettlementStore()
    governor.failures = [DependencyUnavailable("Away.")]
    queue = _queue(governor, clock, io.StringIO(), store)
    working = asyncio.create_task(queue.run())
    queue.put_due(_settlement("paid"))
    queue.put(_settlement("free"))
    await eventually(lambda: clock.sleeping == 1)
    assert store.kept == [_settlement("paid")]
    await clock.advance(0.1)
    await eventually(lambda: len(governor.done) == 2)
    await eventually(lambda: store.kept == [])
    await _stop(working)


async def test_what_an_earlier_process_left_is_settled_first(clock: FakeClock) -> None:
    """Nothing needs to happen for that."""
    governor, store = _Governor(), ScriptedSettlementStore([_settlement("left")])
    working = asyncio.create_task(_queue(governor, clock, io.StringIO(), store).run())
    await eventually(lambda: governor.done == [_settlement("left")])
    await eventually(lambda: store.kept == [])
    await _stop(working)


async def test_what_cannot_be_kept_is_settled_all_the_same(clock: FakeClock) -> None:
    """A full disk is told in the log; only the death of the process would cost the charge."""

    class Full(ScriptedSettlementStore):
        def add(self, settlement: Settlement) -> None:
            raise OSError(28, "No space left on device")

    governor, output = _Governor(), io.StringIO()
    queue = _queue(governor, clock, output, Full())
    working = asyncio.create_task(queue.run())
    queue.put_due(_settlement("a"))
    await eventually(lambda: governor.done == [_settlement("a")])
    await _stop(working)
    assert "settlement.unkept" in output.getvalue()
