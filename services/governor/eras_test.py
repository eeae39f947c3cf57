"""Redis and journal that do not belong together: no counter is believed then."""

from contextlib import suppress
from pathlib import Path
from typing import Any, cast

import pytest
from redis.asyncio import Redis

from meshkit import redis_store
from meshkit.errors import AlreadySettled, DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.redis_server import RedisServer
from services.governor.calls import Allowed
from services.governor.governor_parts import GovernorParts, governor_parts
from services.governor.rule_calls import DEFAULTS, admit, settle, today
from services.governor.scopes import Kind
from services.governor.scripted_ledger import ScriptedLedger

pytest_plugins = ["services.governor.fixture_governor", "services.governor.fixture_rules"]


async def test_journal_that_was_created_anew_is_counted_from_its_beginning(
    parts: GovernorParts, ledger: ScriptedLedger, clock: FakeClock
) -> None:
    """Its places are small again: counters of the one before are opened anew."""
    for _ in range(20):
        ledger.messages.append([])
    await admit(parts, "a", 10)
    await settle(parts, "a", 10)
    await clock.advance(60)
    ledger.messages.clear()
    ledger.age += 1
    spent = 0
    for number in range(15):
        if isinstance(await admit(parts, f"b{number}", 300), Allowed):
            await settle(parts, f"b{number}", 300, called_at=clock.now())
            spent += 300
    assert spent == 900
    assert await today(parts) == (900, 0)


async def test_governor_that_knows_an_older_journal_finds_out_before_it_goes_on(
    parts: GovernorParts, ledger: ScriptedLedger, line: RedisLine, clock: FakeClock
) -> None:
    """What it settles is refused once, to be repeated, and counted by the new places."""

    class Late(ScriptedLedger):
        """Does not notice by itself."""

        async def refresh(self) -> None:
            self.age = ledger.age

    late = Late()
    late.messages = ledger.messages  # type: ignore[misc]
    other = governor_parts(line, clock, late, DEFAULTS)
    await settle(other, "a", 10)
    ledger.age += 1
    assert await today(parts) == (10, 0)
    with pytest.raises(DependencyUnavailable):
        await settle(other, "b", 5)
    await settle(other, "b", 5)
    assert await today(parts) == (15, 0)


async def test_redis_that_comes_back_older_than_it_was_is_not_believed(
    parts: GovernorParts, store: Redis, clock: FakeClock
) -> None:
    """A replica, or a file, that misses the last settlements: the ledger has them."""
    redis = cast(Any, store)
    await admit(parts, "a", 10)
    await settle(parts, "a", 10, called_at=clock.now())
    await clock.advance(10)
    before = {key: await redis.dump(key) for key in await redis.keys("*")}
    await admit(parts, "b", 400)
    await settle(parts, "b", 400, called_at=clock.now())
    await redis.flushall()
    for key, value in before.items():
        await redis.restore(key, 0, value)
    await clock.advance(10)
    assert await today(parts) == (410, 0)
    assert not isinstance(await admit(parts, "c", 591), Allowed)
    await settle(parts, "d", 5, called_at=clock.now())
    assert await today(parts) == (415, 0)


async def test_older_redis_is_noticed_though_every_governor_starts_anew(
    line: RedisLine, store: Redis, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """A snapshot that is restored while none runs: the journal has more than was counted there."""
    redis = cast(Any, store)
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    await admit(parts, "a", 10)
    await settle(parts, "a", 10, called_at=clock.now())
    before = {key: await redis.dump(key) for key in await redis.keys("*")}
    await settle(parts, "b", 400, called_at=clock.now())
    await redis.flushall()
    for key, value in before.items():
        await redis.restore(key, 0, value)
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    await parts.counters.agree(ledger)
    assert await today(parts) == (410, 0)
    assert not isinstance(await admit(parts, "c", 591), Allowed)


async def test_journal_that_has_lost_its_end_is_noticed_at_the_start(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Its places are given to others, which count; what is lost is not in the ledger either."""
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    for key in ("a", "b", "c"):
        await settle(parts, key, 10, called_at=clock.now())
    await parts.openings.open(parts.scopes.of(Kind("acme", "chat"), clock.now()))
    assert await today(parts) == (30, 0)
    del ledger.messages[1:]
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    await parts.counters.agree(ledger)
    await settle(parts, "d", 5, called_at=clock.now())
    assert await today(parts) == (15, 0)


async def test_start_after_a_good_end_believes_the_counters(
    line: RedisLine, store: Redis, clock: FakeClock, ledger: ScriptedLedger
) -> None:
    """Also where the last settlement was a repeat or contradicted one: nothing is opened again."""
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    await clock.advance(1_200)
    await today(parts)
    await clock.advance(60)
    called_at = clock.now()
    for tokens in (10, 10, 12):
        with suppress(AlreadySettled):
            await settle(parts, "a", tokens, called_at=called_at)
    assert len(ledger.messages) == 3
    asked = ledger.asked
    parts = governor_parts(line, clock, ledger, DEFAULTS)
    await parts.counters.agree(ledger)
    assert await today(parts) == (10, 0)
    assert ledger.asked == asked


async def test_governor_starts_without_redis_and_takes_it_for_older(
    store: Redis, line: RedisLine, clock: FakeClock, ledger: ScriptedLedger, tmp_path: Path
) -> None:
    """When it comes, its counters are opened anew."""
    await settle(governor_parts(line, clock, ledger, DEFAULTS), "a", 10)
    away = RedisServer(tmp_path)
    async with (
        redis_store.connect(f"redis://127.0.0.1:{away.port}") as gone,
        RedisLine(gone) as other,
    ):
        parts = governor_parts(other, clock, ledger, DEFAULTS)
        await parts.counters.agree(ledger)
        away.start()
        try:
            asked = ledger.asked

            async def counted() -> bool:
                try:
                    return await today(parts) == (10, 0)
                except DependencyUnavailable:
                    return False

            await eventually(counted)
            assert ledger.asked > asked
        finally:
            away.kill()
