"""Keys that are settled again with other figures when Redis has forgotten them."""

import asyncio
import io
from collections.abc import Sequence
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import log
from meshkit.errors import AlreadySettled
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.governor.account import Usage
from services.governor.budget import Budget, Scope, ScopeKind
from services.governor.calls import MadeCall, Settlement
from services.governor.governor_parts import GovernorParts
from services.governor.ledger_charge import Charge, charges_of_records
from services.governor.repeats import Repeat, RepeatMender
from services.governor.rule_calls import admit, settle, today
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.window import WindowKind

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


class _Kept:
    """Every record that differs from the first of its key, until it is removed."""

    def __init__(self, ledger: ScriptedLedger) -> None:
        self._ledger = ledger
        self._removed = set[str]()
        self.lost_removals = 0

    async def waiting(self, limit: int) -> Sequence[Repeat]:
        """The first of them."""
        found: list[Repeat] = []
        known: dict[str, Charge] = {}
        for place, records in enumerate(self._ledger.messages, start=1):
            for charge in charges_of_records(records, place, 0):
                first = known.setdefault(charge.key, charge)
                name = f"{place} {charge.figures.cost_micros}"
                if charge != first._replace(sequence=place) and name not in self._removed:
                    found.append(Repeat(name, charge))
        return found[:limit]

    async def remove(self, repeats: Sequence[Repeat]) -> None:
        """They are gone, unless that is lost."""
        if self.lost_removals:
            self.lost_removals -= 1
        else:
            self._removed.update(each.id for each in repeats)


async def _reach_nothing(_: int) -> None:
    return


@pytest.fixture
def kept(ledger: ScriptedLedger) -> _Kept:
    """What the ledger keeps."""
    return _Kept(ledger)


@pytest.fixture
def mender(parts: GovernorParts, kept: _Kept, clock: FakeClock) -> RepeatMender:
    """What looks into it."""
    return RepeatMender(
        kept,
        parts.counters,
        parts.scopes,
        parts.openings,
        parts.ledger,
        _reach_nothing,
        clock,
        log.get("test", stream=io.StringIO()),
        wake=asyncio.Event(),
    )


async def _forget_settled(store: Redis, key: str) -> None:
    assert await cast(Any, store).delete(f"governor:{{spend}}:call:acme/{key}") == 1


async def _settle_twice(parts: GovernorParts, store: Redis, clock: FakeClock) -> None:
    """Both are charged to their callers; the ledger has the first alone."""
    await clock.advance(1_200)
    await today(parts)
    await clock.advance(60)
    await settle(parts, "a", 10, called_at=clock.now())
    await _forget_settled(store, "a")
    await clock.advance(4_000)
    await admit(parts, "a", 300)
    await settle(parts, "a", 25, called_at=clock.now())
    assert await today(parts) == (35, 0)


def _in_ledger(ledger: ScriptedLedger) -> dict[str, int]:
    return {key: record.usage.cost_micros for (_, key), record in ledger.firsts().items()}


async def test_call_that_was_charged_under_a_forgotten_key_gets_a_key_of_its_own(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    kept: _Kept,
    mender: RepeatMender,
) -> None:
    """Counters and ledger have both calls then, however often that is done."""
    await _settle_twice(parts, store, clock)
    assert _in_ledger(ledger) == {"a": 10}
    await clock.advance(11)
    kept.lost_removals = 1
    assert await mender.mend()
    assert await mender.mend()
    assert not await mender.mend()
    assert _in_ledger(ledger) == {"a": 10, "a#2": 25}
    again = ledger.messages[2][0]
    first = ledger.messages[1][0]
    first.key = "a#2"
    assert again == first
    assert await today(parts) == (35, 0)
    day, month = await parts.standings.spend("acme")
    for each in (day, month):
        assert each.standing.usage.input_tokens == 35


async def test_repeat_that_was_refused_is_charged_nowhere(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    mender: RepeatMender,
) -> None:
    """Its caller was told that the key is settled, and has to settle under another one."""
    await clock.advance(1_200)
    await today(parts)
    await clock.advance(60)
    await settle(parts, "a", 10, called_at=clock.now())
    with pytest.raises(AlreadySettled):
        await settle(parts, "a", 25, called_at=clock.now())
    await clock.advance(11)
    assert await mender.mend()
    assert not await mender.mend()
    assert _in_ledger(ledger) == {"a": 10}
    assert await today(parts) == (10, 0)


async def test_of_two_that_came_together_the_one_that_was_charged_gets_the_key(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    mender: RepeatMender,
) -> None:
    """They have one place in the journal, and different figures."""
    await clock.advance(1_200)
    await today(parts)
    await clock.advance(60)
    await settle(parts, "a", 10, called_at=clock.now())
    await _forget_settled(store, "a")
    both = [
        MadeCall(
            "acme", "a", "unit", Usage(input_tokens=tokens), task_type="chat", called_at=clock.now()
        )
        for tokens in (25, 30)
    ]
    first, second = await parts.settling.settle(both)
    assert first == Settlement(25, repeated=False)
    assert isinstance(second, AlreadySettled)
    await clock.advance(11)
    assert await mender.mend()
    assert _in_ledger(ledger) == {"a": 10, "a#2": 25}
    assert await today(parts) == (35, 0)


async def test_what_counters_have_too_much_is_gone_where_redis_does_not_know_who_was_told_what(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    mender: RepeatMender,
) -> None:
    """They have what the ledger has, and what is reserved stays."""
    await _settle_twice(parts, store, clock)
    await _forget_settled(store, "a")
    await admit(parts, "b", 7)
    await clock.advance(11)
    await mender.mend()
    assert _in_ledger(ledger) == {"a": 10}
    assert await today(parts) == (10, 7)


async def test_settlement_under_way_is_waited_for(
    parts: GovernorParts, store: Redis, clock: FakeClock, mender: RepeatMender
) -> None:
    """Ten seconds: before, nobody knows what its caller will be told."""
    await _settle_twice(parts, store, clock)
    await clock.advance(9)
    assert await mender.mend()
    assert await today(parts) == (35, 0)
    assert len(parts.ledger.messages) == 2


async def test_repeat_under_another_agent_is_taken_from_its_budget(
    parts: GovernorParts, store: Redis, clock: FakeClock, mender: RepeatMender
) -> None:
    """Of two at once that contradict each other the first in the journal counts, in all budgets."""
    for agent in ("x", "y"):
        scope = Scope(ScopeKind.AGENT, "acme", agent)
        parts.budgets.put(Budget(scope, WindowKind.LIFETIME, 1_000))
        await parts.standings.of(lambda each=agent: parts.budgets.of("acme", "", each))
    await clock.advance(60)
    called_at = clock.now()
    await settle(parts, "a", 10, agent="x", called_at=called_at)
    await _forget_settled(store, "a")
    await settle(parts, "a", 25, agent="y", called_at=called_at)
    await _forget_settled(store, "a")

    async def spent(agent: str) -> int:
        budgets = [
            each
            for each in parts.budgets.of("acme", "", agent)
            if each.scope.kind is ScopeKind.AGENT
        ]
        (standing,) = await parts.standings.of(lambda: budgets)
        return standing.standing.spent_micros

    assert (await spent("x"), await spent("y")) == (10, 25)
    await clock.advance(11)
    await mender.mend()
    assert (await spent("x"), await spent("y")) == (10, 0)


async def test_mender_is_woken_and_looks_again(
    parts: GovernorParts,
    store: Redis,
    clock: FakeClock,
    ledger: ScriptedLedger,
    mender: RepeatMender,
) -> None:
    """It runs beside everything else: nobody calls it."""
    await _settle_twice(parts, store, clock)
    running = asyncio.create_task(mender.run())

    async def is_mended() -> bool:
        await clock.advance(5)
        return "a#2" in _in_ledger(ledger)

    await eventually(is_mended)
    running.cancel()
    await asyncio.gather(running, return_exceptions=True)
