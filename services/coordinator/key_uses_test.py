"""When keys were used: told coarsely, written seldom."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import suppress
from datetime import datetime, timedelta

import pytest

from agentmesh.access.v1.access_service_pb2 import ApiKey
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.api_key_store_jetstream import JetStreamApiKeyStore
from services.coordinator.key_uses import KeyUses

pytest_plugins = ["meshtest.fixtures"]


class _Store:
    """Keeps what is written, as store and as ring."""

    def __init__(self) -> None:
        self.writes: list[tuple[str, str, datetime, str]] = []
        self.away = False

    async def note_use(self, tenant: str, key_id: str, time: datetime, *, once_per: str) -> None:
        if self.away:
            raise DependencyUnavailable("The store is away.")
        self.writes.append((tenant, key_id, time, once_per))

    def used(self, key_id: str) -> datetime | None:
        return max((each[2] for each in self.writes if each[1] == key_id), default=None)


@pytest.fixture
def store() -> _Store:
    return _Store()


@pytest.fixture
async def uses(store: _Store, clock: FakeClock) -> AsyncIterator[KeyUses]:
    """Uses that are written."""
    made = KeyUses(store, store, clock)
    job = asyncio.create_task(made.write())
    yield made
    job.cancel()
    with suppress(asyncio.CancelledError):
        await job


def _key(key_id: str = "abcdefgh") -> ApiKey:
    return ApiKey(name=f"tenants/acme/apiKeys/{key_id}")


async def _pass(clock: FakeClock, seconds: float) -> None:
    """Lets time pass, and writers write."""
    for _ in range(5):
        await asyncio.sleep(0)
    await clock.advance(seconds)
    for _ in range(5):
        await asyncio.sleep(0)


async def test_a_busy_key_is_written_every_ten_minutes(
    uses: KeyUses, store: _Store, clock: FakeClock
) -> None:
    """An hour of calls, every second, is six writes."""
    begin = clock.now()
    for _ in range(3600):
        uses.note(_key(), clock.now())
        await _pass(clock, 1)
    times = [(each[2] - begin) / timedelta(minutes=1) for each in store.writes]
    assert times == [0, 10, 20, 30, 40, 50]
    assert {each[:2] for each in store.writes} == {("acme", "abcdefgh")}


async def test_the_first_use_is_told_at_once(
    uses: KeyUses, store: _Store, clock: FakeClock
) -> None:
    """Of each key: within a second or so."""
    uses.note(_key("aaaaaaaa"), clock.now())
    uses.note(_key("bbbbbbbb"), clock.now())
    await _pass(clock, 1)
    assert [each[1] for each in store.writes] == ["aaaaaaaa", "bbbbbbbb"]


async def test_a_store_that_is_away_is_written_later(
    uses: KeyUses, store: _Store, clock: FakeClock
) -> None:
    """Checks go on meanwhile, and the next use after it is back is told."""
    store.away = True
    uses.note(_key(), clock.now())
    await _pass(clock, 1)
    store.away = False
    await _pass(clock, 60)
    assert store.writes == []
    back = clock.now()
    uses.note(_key(), back)
    await _pass(clock, 1)
    assert [each[2] for each in store.writes] == [back]


async def test_two_coordinators_write_once(nats_url: str, clock: FakeClock) -> None:
    """Of the same ten minutes the store keeps one message."""
    async with await Bus.connect(nats_url, name="test") as bus:
        store = JetStreamApiKeyStore(bus)
        await store.prepare()
        for second in range(2):
            time = clock.now() + timedelta(seconds=second)
            await store.note_use("acme", "abcdefgh", time, once_per="1")
        assert await store.uses("acme") == {"abcdefgh": clock.now()}
        assert await store.newest() == 1
        await store.note_use("acme", "abcdefgh", clock.now() + timedelta(hours=1), once_per="7")

        async def newer() -> bool:
            return await store.uses("acme") == {"abcdefgh": clock.now() + timedelta(hours=1)}

        await eventually(newer)
