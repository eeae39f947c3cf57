"""How fresh keys are, and what that costs: the store is played, so that every question counts."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress

import pytest

from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from services.coordinator.key_ring import STALE_AFTER_SECONDS, Change, KeyRing

pytest_plugins = ["meshtest.fixtures"]


class _Feed:
    """A store whose changes a test makes, and delivers when it likes."""

    def __init__(self) -> None:
        self.stored: list[Change] = []
        # How many of them followers have got; all where None.
        self.delivered: int | None = None
        self.questions = 0
        self.away = False
        self.followers = 0
        self._changed = asyncio.Event()

    def put(self, key_id: str, display_name: str = "") -> None:
        record = StoredApiKey(api_key=ApiKey(display_name=display_name))
        self.stored.append(Change(len(self.stored) + 1, key_id, record, None))
        self.wake()

    def wake(self) -> None:
        self._changed.set()

    async def newest(self) -> int:
        self.questions += 1
        await asyncio.sleep(0)
        if self.away:
            raise DependencyUnavailable("The store is away.")
        return len(self.stored)

    async def changes(self) -> AsyncGenerator[Sequence[Change]]:
        self.followers += 1
        given = 0
        while True:
            if self.away:
                raise DependencyUnavailable("The store is away.")
            some = self.stored[given : self.delivered]
            if some:
                given += len(some)
                yield some
            self._changed.clear()
            await self._changed.wait()


@pytest.fixture
async def feed() -> _Feed:
    return _Feed()


@asynccontextmanager
async def _following(ring: KeyRing) -> AsyncGenerator[KeyRing]:
    job = asyncio.create_task(ring.follow())
    try:
        yield ring
    finally:
        job.cancel()
        with suppress(asyncio.CancelledError):
            await job


@pytest.fixture
async def ring(feed: _Feed, clock: FakeClock) -> AsyncIterator[KeyRing]:
    """A ring that follows, with one key that was given."""
    given = {"given": StoredApiKey(api_key=ApiKey(display_name="given"))}
    async with _following(KeyRing(feed, given, clock)) as ring:
        yield ring


async def _name(ring: KeyRing, key_id: str) -> str | None:
    record = await ring.find(key_id)
    return record.api_key.display_name if record else None


async def test_the_first_answer_waits_for_all_there_is(feed: _Feed, clock: FakeClock) -> None:
    """No key is unknown only because the process has just begun."""
    for number in range(100):
        feed.put(f"key{number}", str(number))
    async with _following(KeyRing(feed, {}, clock)) as ring:
        assert await _name(ring, "key99") == "99"


async def test_an_empty_store_is_no_riddle(ring: KeyRing) -> None:
    """Without any key that was made, those that were given count."""
    assert await _name(ring, "given") == "given"
    assert await _name(ring, "unknown") is None


async def test_what_is_stored_counts_more_than_what_was_given(ring: KeyRing, feed: _Feed) -> None:
    """A given key that was revoked is in the store from then on."""
    feed.put("given", "revoked")
    await ring.catch_up()
    assert await _name(ring, "given") == "revoked"


async def test_a_known_key_asks_nobody(ring: KeyRing, feed: _Feed, clock: FakeClock) -> None:
    """A thousand checks within a second cost the store nothing."""
    feed.put("key")
    await _name(ring, "key")
    asked = feed.questions
    for _ in range(1000):
        await ring.find("key")
        await clock.advance(0.001)
    assert feed.questions == asked


async def test_rest_costs_nothing(ring: KeyRing, feed: _Feed, clock: FakeClock) -> None:
    """Where nobody calls with a key, nobody is asked."""
    await _name(ring, "given")
    asked = feed.questions
    for _ in range(60):
        await clock.advance(60)
        await asyncio.sleep(0)
    assert feed.questions == asked


async def test_calls_all_along_ask_once_a_second(
    ring: KeyRing, feed: _Feed, clock: FakeClock
) -> None:
    """A hundred calls a second for ten seconds are ten questions, which no call waits for."""
    feed.put("key")
    await _name(ring, "key")
    asked = feed.questions
    for _ in range(1000):
        await clock.advance(0.01)
        await ring.find("key")
        await asyncio.sleep(0)
        await asyncio.sleep(0)
    assert 8 <= feed.questions - asked <= 10


async def test_guesses_share_a_question(ring: KeyRing, feed: _Feed) -> None:
    """Hundreds of unknown keys at the same moment make it certain together."""
    await _name(ring, "given")
    asked = feed.questions
    found = await asyncio.gather(*(ring.find(f"guess{number}") for number in range(500)))
    assert not any(found)
    assert feed.questions - asked <= 2


async def test_a_key_that_is_new_elsewhere_is_waited_for(ring: KeyRing, feed: _Feed) -> None:
    """What is stored, and was not delivered yet, is no unknown key."""
    assert await _name(ring, "key") is None
    feed.delivered = 0
    feed.put("key", "new")
    finding = asyncio.create_task(_name(ring, "key"))
    await asyncio.sleep(0.01)
    assert not finding.done()
    feed.delivered = None
    feed.wake()
    assert await finding == "new"


async def test_nothing_old_is_answered(ring: KeyRing, feed: _Feed, clock: FakeClock) -> None:
    """What was certain three seconds ago counts; a moment later it has to be certain again."""
    feed.put("key", "before")
    assert await _name(ring, "key") == "before"
    feed.delivered = 1
    feed.put("key", "revoked")
    await clock.advance(STALE_AFTER_SECONDS)
    assert await _name(ring, "key") == "before"
    await clock.advance(0.001)
    with pytest.raises(DependencyUnavailable) as raised:
        await ring.find("key")
    assert str(raised.value) == ("API keys cannot be checked now: their store does not answer.")
    assert raised.value.metadata == {"dependency": "nats"}
    feed.delivered = None
    feed.wake()
    assert await _name(ring, "key") == "revoked"


async def test_a_store_that_is_another_one_is_read_anew(
    ring: KeyRing, feed: _Feed, clock: FakeClock
) -> None:
    """After a fault the copy begins from nothing: keys of the store before are unknown."""
    feed.put("old", "old")
    feed.put("older", "older")
    assert await _name(ring, "old") == "old"
    feed.away = True
    feed.wake()
    await clock.advance(STALE_AFTER_SECONDS + 1)
    with pytest.raises(DependencyUnavailable):
        await ring.find("old")
    feed.stored.clear()
    feed.put("new", "new")
    feed.away = False

    async def read_anew() -> bool:
        try:
            return await _name(ring, "new") == "new"
        except DependencyUnavailable:
            return False

    await eventually(read_anew)
    assert feed.followers >= 2
    assert await _name(ring, "old") is None
    assert await _name(ring, "given") == "given"
