"""Settlements that nobody heard the end of are repeated by callers with clocks of their own."""

from datetime import timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from services.governor.calls import Allowed
from services.governor.governor_parts import GovernorParts
from services.governor.rule_calls import admit, settle, today
from services.governor.scripted_ledger import ScriptedLedger

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


@pytest.mark.parametrize("hours_ahead", [0, 2])
async def test_repeat_is_known_again_however_far_its_caller_is_ahead(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    hours_ahead: int,
) -> None:
    """It is not written again, and counts once in a counter that was opened with it meanwhile."""
    await today(parts)
    await clock.advance(10)
    called_at = clock.now() + timedelta(hours=hours_ahead)
    parts.counters.fault = "dies"
    with pytest.raises(DependencyUnavailable):
        await settle(parts, "a", 100, called_at=called_at)
    await cast(Any, store).flushall()
    assert await today(parts) == (100, 0)
    await clock.advance(10)
    await settle(parts, "a", 100, called_at=called_at)
    assert await today(parts) == (100, 0)
    assert len(ledger.messages) == 1


async def test_cap_counts_calls_whose_callers_clock_is_a_bit_behind(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A call that was admitted under it seems to have ended before it was opened."""
    cap = {"task": "t1", "task_limit_micros": 500, "task_spent_micros": 300}
    await admit(parts, "x", 1)
    await clock.advance(10)
    assert isinstance(await admit(parts, "b", 100, **cap), Allowed)
    await clock.advance(0.5)
    await settle(parts, "b", 100, task="t1", called_at=clock.now() - timedelta(seconds=1))
    assert isinstance(await admit(parts, "c", 100, **cap), Allowed)
    assert not isinstance(await admit(parts, "d", 100, **cap), Allowed)


async def test_repeats_of_what_was_not_counted_leave_counters_alone(
    parts: GovernorParts, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Where the ledger could not be asked nothing was counted: no counter has to be opened anew."""
    await today(parts)
    await clock.advance(10)
    ledger.failure = DependencyUnavailable("slow", metadata={"dependency": "ledger"})
    for number in range(5):
        with pytest.raises(DependencyUnavailable):
            await settle(parts, f"k{number}", 1)
    ledger.failure = None
    asked = ledger.asked
    for number in range(5):
        await settle(parts, f"k{number}", 1)
        await admit(parts, f"a{number}", 1)
    # Once for each repeat.
    assert ledger.asked == asked + 5
    assert await today(parts) == (5, 5)
