"""Profiles say what kinds of work used: of the latest calls, and no more than is known."""

import asyncio
import io
from collections.abc import Sequence

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit import log
from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.governor.ledger_charge import Charge, Figures
from services.governor.ledger_writer import LedgerWriter
from services.governor.profiles import News, Profile, Profiles, Sample, WorkKey, profile_of
from services.governor.profiles_sql import SqlProfiles
from services.governor.usage_stream import STREAM
from sqlstore.database import Database
from sqlstore.positions import BEGINNING, Place

pytest_plugins = ["meshtest.fixtures", "services.governor.fixture_ledger"]

_CHAT = WorkKey("acme", "chat", 1)


def _journal() -> log.Log:
    return log.get("test", stream=io.StringIO())


class _Carrier:
    """Writes charges as if they came from the journal."""

    def __init__(self, database: Database) -> None:
        self._writer = LedgerWriter(database)
        self._place = BEGINNING

    async def charge(self, key: WorkKey, outputs: Sequence[int], *, agent: str = "") -> None:
        """A call for each of these output tokens; each costs twice as much."""
        sequence = self._place.position + 1
        charges = [
            Charge(
                *(key.tenant, f"k{sequence}-{number}", key.task_type, agent, "m", key.tier),
                *("", "", "1", sequence, 1, 1),
                Figures(10, output, 0, 1, 0, 0, 2 * output),
            )
            for number, output in enumerate(outputs)
        ]
        before, self._place = self._place, Place(sequence, sequence)
        await self._writer.apply([charges], stream=STREAM, before=before, after=self._place)


@given(st.lists(st.integers(0, 10**9), min_size=1, max_size=200))
def test_19_of_20_calls_use_no_more(outputs: list[int]) -> None:
    """And one of those calls used just that."""
    profile = profile_of(_CHAT, [Sample(1, each, 1) for each in outputs])
    assert sum(each <= profile.output_tokens for each in outputs) >= 0.95 * len(outputs)
    assert sum(each < profile.output_tokens for each in outputs) < 0.95 * len(outputs)
    assert profile.output_tokens in outputs
    assert profile.mean_output_tokens == pytest.approx(sum(outputs) / len(outputs))


async def test_a_profile_is_of_all_agents_and_of_the_latest_calls(database: Database) -> None:
    """500 of them: what work used long ago does not count."""
    carrier, source = _Carrier(database), SqlProfiles(database)
    await carrier.charge(_CHAT, [9_000] * 400, agent="old")
    await carrier.charge(_CHAT, [100] * 299, agent="one")
    await carrier.charge(_CHAT, [300] * 201, agent="two")
    (profile,) = await source.of_task_type("acme", "chat")
    assert profile == Profile(
        key=_CHAT,
        samples=500,
        mean_input_tokens=10.0,
        mean_output_tokens=180.4,
        mean_cost_micros=360.8,
        p95_cost_micros=600,
        output_tokens=300,
    )


async def test_profiles_come_in_pages(database: Database) -> None:
    """In order of task type and tier, each once, and nobody else's."""
    carrier, source = _Carrier(database), SqlProfiles(database)
    keys = [WorkKey("acme", kind, tier) for kind in ("a", "b", "c") for tier in (1, 3)]
    for key in [*reversed(keys), WorkKey("else", "a", 1)]:
        await carrier.charge(key, [5])
    found: list[WorkKey] = []
    after: tuple[str, int] | None = None
    while page := await source.page("acme", after=after, limit=4):
        found += (each.key for each in page)
        after = found[-1].task_type, found[-1].tier
    assert found == keys


async def test_what_is_likely_follows_the_ledger(database: Database, clock: FakeClock) -> None:
    """From 20 calls on, half a minute later at most; only what changed is read again."""
    carrier, source = _Carrier(database), SqlProfiles(database)
    profiles = Profiles(source, clock, _journal())
    await carrier.charge(_CHAT, [100] * 19)
    await profiles.refresh()
    assert profiles.likely(*_CHAT) is None
    await carrier.charge(_CHAT, [100])
    await profiles.refresh()
    found = profiles.likely(*_CHAT)
    assert found is not None
    assert found.output_tokens == 100
    assert profiles.likely("acme", "chat", 2) is None
    assert profiles.likely("else", "chat", 1) is None
    last = (await source.changed(0)).charge
    assert await source.changed(last) == News((), last)
    await carrier.charge(WorkKey("acme", "other", 1), [1])
    assert [each.key.task_type for each in (await source.changed(last)).profiles] == ["other"]


class _Away:
    """Fails the first time."""

    def __init__(self) -> None:
        self.asked = 0

    async def changed(self, since_charge: int) -> News:
        self.asked += 1
        if self.asked == 1:
            raise DependencyUnavailable("The ledger is away.")
        return News([profile_of(_CHAT, [Sample(1, 7, 1)] * 20)], 20)


async def test_a_ledger_that_is_away_is_asked_again(clock: FakeClock) -> None:
    """Half a minute later."""
    source = _Away()
    profiles = Profiles(source, clock, _journal())
    run = asyncio.create_task(profiles.run())
    await eventually(lambda: source.asked == 1)
    await eventually(lambda: clock.sleeping)
    await clock.advance(30)
    await eventually(lambda: profiles.likely(*_CHAT))
    run.cancel()
    await asyncio.gather(run, return_exceptions=True)
