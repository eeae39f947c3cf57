"""The policy on a real broker: who may change it, and how fast others hear of it."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from meshkit.bus import Bus
from meshkit.errors import Conflict, InvalidField
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore

pytest_plugins = ["meshtest.fixtures"]


@pytest.fixture
async def bus(nats_url: str) -> AsyncIterator[Bus]:
    """A connection to an empty broker."""
    async with await Bus.connect(nats_url, name="test") as made:
        yield made


@pytest.fixture
async def store(bus: Bus) -> PolicyStore:
    """A store, ready."""
    made = PolicyStore(bus)
    await made.prepare()
    return made


@pytest.fixture
async def follower(nats_url: str, store: PolicyStore) -> AsyncIterator[PolicyStore]:
    """Another process's store, which follows."""
    async with await Bus.connect(nats_url, name="follower") as bus:
        made = PolicyStore(bus)
        await made.prepare()
        following = asyncio.create_task(made.follow())
        yield made
        following.cancel()
        await asyncio.gather(following, return_exceptions=True)


def _with_workers(shared: int, etag: str = "") -> QueuePolicy:
    policy = built_in()
    policy.shared_workers = shared
    policy.etag = etag
    return policy


async def test_a_policy_outlives_who_set_it(store: PolicyStore, bus: Bus) -> None:
    """Who comes later finds it, with the same etag."""
    set_policy = await store.set(_with_workers(7))
    later = PolicyStore(bus)
    await later.prepare()
    assert later.current == set_policy
    assert later.current.message.shared_workers == 7
    assert later.current.message.etag


async def test_only_who_knows_the_present_policy_replaces_it(store: PolicyStore) -> None:
    """An etag of an earlier one is a conflict, and changes nothing."""
    first = await store.set(_with_workers(1))
    second = await store.set(_with_workers(2, first.message.etag))
    with pytest.raises(Conflict) as caught:
        await store.set(_with_workers(3, first.message.etag))
    assert str(caught.value) == (
        f"The policy has changed: its etag is {second.message.etag!r}, not"
        f" {first.message.etag!r}. Read it again, and apply your change to that."
    )
    assert await store.refresh() == second


async def test_of_many_with_the_same_etag_one_wins(store: PolicyStore) -> None:
    """However close together they come."""
    etag = (await store.set(_with_workers(1))).message.etag

    async def wins(shared: int) -> bool:
        try:
            await store.set(_with_workers(shared, etag))
        except Conflict:
            return False
        return True

    assert sum(await asyncio.gather(*(wins(shared) for shared in range(2, 10)))) == 1


async def test_without_an_etag_every_change_is_made(store: PolicyStore) -> None:
    """The last write wins; none is refused for the others."""
    policies = await asyncio.gather(*(store.set(_with_workers(shared)) for shared in range(1, 9)))
    etags = {policy.message.etag for policy in policies}
    assert str(max(map(int, etags))) == (await store.refresh()).message.etag


async def test_a_repeat_answers_the_policy_as_set(store: PolicyStore) -> None:
    """An answer may be lost: the same change under the same etag is no conflict."""
    etag = (await store.set(_with_workers(1))).message.etag
    first = await store.set(_with_workers(2, etag))
    assert await store.set(_with_workers(2, etag)) == first


async def test_what_cannot_be_worked_with_is_not_stored(store: PolicyStore, bus: Bus) -> None:
    """The policy in force stays."""
    with pytest.raises(InvalidField):
        await store.set(_with_workers(-1))
    assert (await store.refresh()).message == built_in()
    assert await bus.last("POLICY", "policy.queues") is None


async def test_followers_hear_of_a_change(
    store: PolicyStore, follower: PolicyStore, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Nor do they have to look for themselves; each change is told once."""
    monkeypatch.setattr("tasklog.policy_store._LOOK_AFTER_SECONDS", 3600.0)
    told: list[int] = []
    follower.on_change(lambda: told.append(follower.current.message.shared_workers))

    async def heard(shared: int) -> None:
        await store.set(_with_workers(shared))
        await eventually(lambda: follower.current.message.shared_workers == shared)

    # The first one may come before the follower listens; it looks once it does.
    await store.set(_with_workers(1))
    await eventually(lambda: follower.current.message.shared_workers == 1)
    await heard(2)
    await heard(3)
    assert told == [1, 2, 3]


async def test_a_change_while_the_broker_was_away_is_found(
    nats_server: NatsServer, store: PolicyStore, follower: PolicyStore
) -> None:
    """A restart neither loses the policy nor leaves a follower behind."""
    before = await store.set(_with_workers(4))
    await eventually(lambda: follower.current == before)
    nats_server.kill()
    nats_server.start()
    assert await store.refresh() == before
    after = await store.set(_with_workers(5))
    await eventually(lambda: follower.current == after)
    latest = await store.set(_with_workers(6))
    await eventually(lambda: follower.current == latest)


async def test_an_older_policy_that_is_read_late_changes_nothing(
    store: PolicyStore, follower: PolicyStore
) -> None:
    """Reads and changes at the same time leave the newest one in force."""

    async def read() -> None:
        for _ in range(50):
            await follower.refresh()

    async def write() -> None:
        for shared in range(1, 51):
            await store.set(_with_workers(shared))

    seen: list[int] = []
    follower.on_change(lambda: seen.append(follower.current.message.shared_workers))
    await asyncio.gather(read(), read(), write())
    await eventually(lambda: follower.current == store.current)
    assert seen == sorted(seen)
