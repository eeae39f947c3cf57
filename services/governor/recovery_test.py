"""What is lost, late or contradicts itself is counted once all the same: on a real Redis."""

import asyncio
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit.errors import AlreadySettled, DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.governor.account import Usage
from services.governor.budget import Budget, Scope, ScopeKind
from services.governor.calls import Allowed, Denied, MadeCall, PlannedCall, Settlement, WantedLease
from services.governor.governor_parts import GovernorParts, governor_parts
from services.governor.rule_calls import DEFAULTS, START, admit, settle, today
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


async def test_lost_redis_is_rebuilt_from_the_ledger(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """To the micro-dollar, with its usage; a settlement repeated over the loss is counted once."""
    await settle(parts, "a", 300)
    await settle(parts, "b", 20)
    before = await parts.standings.spend("acme")
    await cast(Any, store).flushall()
    assert await parts.standings.spend("acme") == before
    await cast(Any, store).flushall()
    await settle(parts, "b", 20)
    await settle(parts, "c", 5)
    assert await today(parts) == (325, 0)
    await cast(Any, store).flushall()
    assert isinstance(await admit(parts, "d", 676), Denied)
    assert isinstance(await admit(parts, "d", 675), Allowed)
    # Long after the counter was opened a call is known to be new.
    await clock.advance(60)
    asked = parts.ledger.asked
    await settle(parts, "e", 5, called_at=clock.now())
    assert parts.ledger.asked == asked
    await settle(parts, "b", 20, called_at=START)
    assert parts.ledger.asked == asked + 1
    assert await today(parts) == (330, 675)


async def test_settlement_whose_counting_failed_is_counted_when_it_is_repeated(
    parts: GovernorParts, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Once, though the journal has it twice, and though a counter was opened in between."""
    await settle(parts, "a", 100)
    # Dies between journal and counters.
    twice = ledger.messages[0]
    twice[0].key = "b"
    await ledger.append(twice)
    parts.budgets.put(Budget(Scope(ScopeKind.TASK_TYPE, "acme", "chat"), WindowKind.DAY, 1000))
    await parts.standings.of(lambda: parts.budgets.of("acme", "chat"))
    await settle(parts, "b", 100)
    await settle(parts, "b", 100)
    standings = await parts.standings.of(lambda: parts.budgets.of("acme", "chat"))
    for each in standings:
        balance = ledger.balance_now(each.budget.scope, each.window.start, each.window.end)
        assert each.standing.spent_micros == balance.spent_micros


@pytest.mark.parametrize("away", ["ledger", "redis"])
async def test_settlement_that_waits_is_written_once_however_often_it_is_repeated(
    away: str, parts: GovernorParts, store: Redis, ledger: ScriptedLedger
) -> None:
    """The journal has its first record alone, and when what was away is back it is counted."""
    await settle(parts, "before", 1)
    await cast(Any, store).flushall()
    for _ in range(3):
        if away == "ledger":
            ledger.failure = DependencyUnavailable("The ledger is late.")
        else:
            parts.counters.fault = "dies"
        with pytest.raises(DependencyUnavailable):
            await settle(parts, "a", 100)
        assert len(ledger.messages) == 2
    ledger.failure = None
    # Other figures are another record.
    assert await settle(parts, "a", 100) == Settlement(100, repeated=False)
    with pytest.raises(AlreadySettled):
        await settle(parts, "a", 99)
    assert len(ledger.messages) == 3
    assert await today(parts) == (101, 0)


async def test_repeat_with_other_figures_that_redis_does_not_remember_is_refused(
    parts: GovernorParts, store: Redis, ledger: ScriptedLedger
) -> None:
    """What the ledger has counts, in the counters too, and is told; also within one batch."""
    await settle(parts, "a", 30)
    await cast(Any, store).flushall()
    with pytest.raises(AlreadySettled) as caught:
        await settle(parts, "a", 50)
    assert caught.value.metadata == {"cost_micros": "30"}
    both = [
        MadeCall("acme", "b", "unit", Usage(input_tokens=tokens), task_type="chat")
        for tokens in (5, 7)
    ]
    first, other = await parts.settling.settle(both)
    assert first == Settlement(5, repeated=False)
    assert isinstance(other, AlreadySettled)
    assert await today(parts) == (35, 0)


async def test_settlement_that_is_repeated_after_midnight_counts_where_the_ledger_has_it(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """In the day in which the journal had it first: the day that has begun stays as it is."""
    await today(parts)
    called_at = clock.now()
    await clock.advance(590)
    for fault in ("dies", ""):
        parts.counters.fault = fault
        with suppress(DependencyUnavailable):
            await settle(parts, "a", 100, called_at=called_at)
        if fault:
            await clock.advance(20)
            assert await today(parts) == (0, 0)
    assert await today(parts) == (0, 0)
    month = await parts.standings.of(lambda: parts.budgets.of("acme"))
    await clock.advance(-20)
    assert await today(parts) == (100, 0)
    assert [each.standing.spent_micros for each in month] == [0, 0]


async def test_settlement_that_another_governor_repeats_after_midnight_counts_in_the_day_before(
    parts: GovernorParts, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Also where the new day's counter was there before the call ended, as it mostly is."""
    other = governor_parts(line, clock, ledger, DEFAULTS)
    await today(parts)
    await clock.advance(590)
    await parts.openings.open(parts.scopes.beginning(clock.now(), clock.now() + timedelta(hours=1)))
    await clock.advance(5)
    called_at = clock.now()
    parts.counters.fault = "dies"
    with pytest.raises(DependencyUnavailable):
        await settle(parts, "a", 100, called_at=called_at)
    await clock.advance(10)
    assert await settle(other, "a", 100, called_at=called_at) == Settlement(100, repeated=False)
    assert await today(other) == (0, 0)
    # A call of the new day need not be looked for.
    asked = ledger.asked
    await settle(other, "b", 7, called_at=clock.now())
    assert ledger.asked == asked
    assert await today(other) == (7, 0)
    await clock.advance(-10)
    assert await today(other) == (100, 0)


async def test_cap_counts_once_what_its_task_spent_before_and_settles_later(
    parts: GovernorParts, clock: FakeClock
) -> None:
    """A call that was made while no governor could be reached is in the task's log already when the
    cap's counter begins."""
    cap = {"task": "t1", "task_limit_micros": 500}
    made_at = clock.now()
    await clock.advance(10)
    assert isinstance(await admit(parts, "b", 100, **cap, task_spent_micros=300), Allowed)
    await settle(parts, "a", 300, task="t1", called_at=made_at)
    await clock.advance(1)
    await settle(parts, "b", 100, task="t1", called_at=clock.now())
    assert isinstance(await admit(parts, "c", 101, **cap, task_spent_micros=400), Denied)
    assert isinstance(await admit(parts, "c", 100, **cap, task_spent_micros=400), Allowed)
    assert await today(parts) == (400, 100)


async def test_of_two_settlements_at_once_the_one_that_the_journal_heard_first_counts(
    parts: GovernorParts, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Whichever of them Redis hears first: counters and ledger agree."""
    await admit(parts, "a", 100)
    await clock.advance(10)
    first = parts.ledger.append
    waiting, free = asyncio.Event(), asyncio.Event()

    class Slow(ScriptedLedger):
        """Answers the first that asks only when it is told to."""

        async def append(self, records: Any) -> int:
            place = await first(records)
            if not waiting.is_set():
                waiting.set()
                await free.wait()
            return place

    slow = Slow()
    other = governor_parts(line, clock, slow, DEFAULTS)
    early = asyncio.create_task(settle(other, "a", 30, called_at=clock.now()))
    await waiting.wait()
    assert await settle(parts, "a", 50, called_at=clock.now()) == Settlement(50, repeated=False)
    free.set()
    assert await early == Settlement(30, repeated=False)
    assert await today(parts) == (30, 0)
    assert [each.usage.cost_micros for each in ledger.firsts().values()] == [30]


async def test_without_the_ledger_a_counter_is_not_begun(
    parts: GovernorParts, ledger: ScriptedLedger, store: Redis
) -> None:
    """What is not there is never taken for zero; what is there goes on."""
    await admit(parts, "a", 10)
    ledger.failure = DependencyUnavailable("The ledger is away.")
    assert isinstance(await admit(parts, "b", 10), Allowed)
    call = PlannedCall("other", "a", "unit", 10, 0)
    (answer,) = await parts.admission.admit([call])
    assert answer is ledger.failure
    await cast(Any, store).flushall()
    (answer,) = await parts.admission.admit([PlannedCall("acme", "c", "unit", 10, 0)])
    assert answer is ledger.failure


async def test_what_cannot_be_written_to_the_journal_is_not_counted(
    parts: GovernorParts, ledger: ScriptedLedger
) -> None:
    """The caller repeats it; with its answer lost, it counts once."""
    await admit(parts, "a", 10)
    ledger.append_failure = DependencyUnavailable("The journal is away.")
    with pytest.raises(DependencyUnavailable):
        await settle(parts, "a", 10)
    assert await today(parts) == (0, 10)
    ledger.loses_answers = True
    with pytest.raises(DependencyUnavailable):
        await settle(parts, "a", 10)
    ledger.append_failure = None
    await settle(parts, "a", 10)
    assert await today(parts) == (10, 0)
    assert sum(each.usage.cost_micros for each in ledger.firsts().values()) == 10


async def test_counter_that_is_not_open_holds_up_no_other_item(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """A slow ledger is waited for a quarter of a second; its answer then serves who asks next."""
    parts = governor_parts(line, clock, ledger, DEFAULTS, opened_within_seconds=0.25)
    await admit(parts, "a", 1)
    free = asyncio.Event()
    balance = ledger.balance

    async def slow(*asked: Any) -> Any:
        await free.wait()
        return await balance(*asked)

    ledger.balance = slow  # type: ignore[method-assign]
    calls = [PlannedCall(tenant, "x", "unit", 1, 0) for tenant in ("acme", "newcomer")]
    async with asyncio.timeout(60):
        known, unknown = await parts.admission.admit(calls)
        with pytest.raises(DependencyUnavailable) as refused:
            await parts.leasing.lease(WantedLease("newcomer", "l", 10))
    assert isinstance(known, Allowed)
    for error in (unknown, refused.value):
        assert isinstance(error, DependencyUnavailable)
        assert error.metadata == {"dependency": "ledger"}
    free.set()

    async def opened() -> bool:
        (again,) = await parts.admission.admit(calls[1:])
        assert isinstance(again, Allowed)
        return True

    await eventually(opened)
    # Day and month, once each.
    assert ledger.asked == 4


async def test_settlement_without_a_time_may_be_a_repeat_of_long_ago(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """The ledger is asked; and no call ended later than now."""
    await settle(parts, "a", 10)
    await cast(Any, store).flushall()
    assert await today(parts) == (10, 0)
    await clock.advance(5)
    await settle(parts, "a", 10)
    assert await today(parts) == (10, 0)
    await cast(Any, store).flushall()
    assert await today(parts) == (10, 0)
    await settle(parts, "a", 10, called_at=clock.now() + timedelta(days=1))
    assert await today(parts) == (10, 0)


async def test_call_that_ended_when_it_cannot_have_is_told_when_it_is_settled(
    parts: GovernorParts, ledger: ScriptedLedger, clock: FakeClock
) -> None:
    """No report would find it; where its caller's clock is but a little ahead, it is told by it."""
    now, soon = clock.now(), clock.now() + timedelta(minutes=59)
    times = {"a": now.replace(year=9999), "b": now.replace(year=1969), "c": soon, "d": None}
    for key, called_at in times.items():
        await settle(parts, key, 10, called_at=called_at)
        await settle(parts, key, 10, called_at=called_at)
    records = ledger.firsts()
    assert [records["acme", key].call_time.ToDatetime(UTC) for key in times] == [
        now, now, soon, now
    ]  # fmt: skip
    assert await today(parts) == (40, 0)


async def test_settlement_that_redis_does_not_remember_any_more_is_found_in_the_ledger(
    line: RedisLine, store: Redis, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """A repeat that comes after an hour is charged once."""
    parts = governor_parts(line, clock, ledger, DEFAULTS, remember_settled_seconds=3_600)
    # No window ends soon.
    await clock.advance(7_200)
    await admit(parts, "open", 1)
    await clock.advance(60)
    called_at = clock.now()
    await settle(parts, "a", 10, called_at=called_at)
    key = "governor:{spend}:call:acme/a"
    assert 3_590 <= await cast(Any, store).ttl(key) <= 3_600
    await cast(Any, store).delete(key)
    await clock.advance(3_600)
    asked = ledger.asked
    await settle(parts, "a", 10, called_at=called_at)
    assert ledger.asked > asked
    assert await today(parts) == (10, 0)


async def test_settlement_that_was_counted_unheard_is_not_counted_again_when_redis_has_forgotten_it(
    line: RedisLine, store: Redis, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Though the governor that is asked again takes it for one that still waits."""
    parts = governor_parts(line, clock, ledger, DEFAULTS, remember_settled_seconds=3_600)
    await today(parts)
    await clock.advance(10)
    called_at = clock.now()
    parts.counters.fault = "unheard"
    with pytest.raises(DependencyUnavailable):
        await settle(parts, "a", 10, called_at=called_at)
    await cast(Any, store).delete("governor:{spend}:call:acme/a")
    await clock.advance(3_600)
    assert await settle(parts, "a", 10, called_at=called_at) == Settlement(10, repeated=False)
    assert len(ledger.messages) == 1
    await clock.advance(-3_600)
    assert await today(parts) == (10, 0)


async def test_settlement_by_a_clock_that_is_ahead_is_remembered_until_it_counts_as_old(
    line: RedisLine, store: Redis, ledger: ScriptedLedger
) -> None:
    """Else a repeat that comes when Redis has forgotten it would be taken for a new call; also
    where it is Redis' own clock that is late, and is put right."""
    ahead = FakeClock(datetime.now(UTC) + timedelta(hours=2))
    parts = governor_parts(
        line, ahead, ledger, DEFAULTS, remember_settled_seconds=3_600, expires_by_redis=True
    )
    await admit(parts, "open", 1)
    await settle(parts, "a", 10, called_at=ahead.now())
    assert 10_790 <= await cast(Any, store).ttl("governor:{spend}:call:acme/a") <= 10_801
    # A call that is made besides changes nothing about that.
    await admit(parts, "a", 10)
    assert 10_790 <= await cast(Any, store).ttl("governor:{spend}:call:acme/a") <= 10_801


async def test_reservation_that_outlives_its_counter_makes_no_room_in_the_next_one(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """As where Redis' clock is put forward by days: what is given back is not in the new one."""
    cap = {"task": "t1", "task_limit_micros": 600}
    assert isinstance(await admit(parts, "a", 500, **cap), Allowed)
    assert await cast(Any, store).delete("governor:{spend}:task:acme:t1:lifetime:0") == 1
    await clock.advance(601)
    assert isinstance(await admit(parts, "b", 400, **cap), Allowed)
    assert not isinstance(await admit(parts, "c", 300, **cap), Allowed)


async def test_governor_whose_clock_is_ahead_gives_back_nothing_of_others(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Reservations expire by Redis' own time."""
    ahead = FakeClock(START + timedelta(minutes=9))
    one, other = (
        governor_parts(line, each, ledger, DEFAULTS, reservation_seconds=60, expires_by_redis=True)
        for each in (clock, ahead)
    )
    assert isinstance(await admit(one, "a", 800), Allowed)
    assert not isinstance(await admit(other, "b", 800), Allowed)
    assert await today(other) == (0, 800)
