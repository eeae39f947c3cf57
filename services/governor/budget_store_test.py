"""Budgets on a real broker: how they come to every governor, whatever happens to the broker."""

import asyncio
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from meshkit.bus import Bus
from meshkit.errors import BudgetNotFound, DependencyUnavailable
from meshtest.clock import RunningClock
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.governor.budget import Budget, Scope, ScopeKind
from services.governor.budget_store_jetstream import JetStreamBudgets
from services.governor.budgets import Budgets
from services.governor.window import WindowKind

pytest_plugins = ["meshtest.fixtures"]

_PLACE = (Scope(ScopeKind.TASK_TYPE, "acme", "a.b"), WindowKind.DAY)


@dataclass(frozen=True, slots=True)
class _Governor:
    """What one governor knows."""

    budgets: Budgets
    store: JetStreamBudgets
    bus: Bus


def _budget(limit: int = 5) -> Budget:
    return Budget(*_PLACE, limit)


async def _governor(stack: AsyncExitStack, nats_url: str, start: datetime) -> _Governor:
    bus = await stack.enter_async_context(await Bus.connect(nats_url, name="governor"))
    budgets = Budgets(lambda _: ())
    store = JetStreamBudgets(bus, budgets, RunningClock(start), most_per_tenant=10)
    await store.prepare()
    following = asyncio.create_task(store.follow())
    stack.callback(following.cancel)
    return _Governor(budgets, store, bus)


@pytest.fixture
async def both(nats_url: str) -> AsyncIterator[list[_Governor]]:
    """Two governors."""
    async with AsyncExitStack() as stack:
        yield [await _governor(stack, nats_url, datetime.now(UTC)) for _ in range(2)]


async def test_what_one_sets_and_removes_the_other_reaches(both: list[_Governor]) -> None:
    """By its place: whoever has reached that knows the budget, and knows that it is gone."""
    one, other = both
    for limit in range(5, 30):
        stored, place = await one.store.set(_budget(limit), etag="", request_id="")
        await other.store.reach(place)
        assert other.budgets.get(_PLACE) == stored
        assert other.budgets.of("acme", "a.b") == [stored]
    await other.store.reach(await one.store.delete(_PLACE, etag=""))
    assert other.budgets.get(_PLACE) is None
    with pytest.raises(BudgetNotFound):
        await other.store.delete(_PLACE, etag="")


async def test_a_broker_that_restarts_stops_nobody(
    both: list[_Governor], shared_nats: NatsServer
) -> None:
    """What is set afterwards comes to all; what was set is there."""
    one, other = both
    stored, place = await one.store.set(_budget(), etag="", request_id="")
    await other.store.reach(place)
    shared_nats.restart()
    assert other.budgets.get(_PLACE) == stored

    async def set_again() -> bool:
        try:
            await one.store.set(_budget(6), etag="", request_id="r")
        except DependencyUnavailable as error:
            raise LookupError(error.message) from error
        return True

    await eventually(set_again)

    async def arrived() -> bool:
        budget = other.budgets.get(_PLACE)
        return budget is not None and budget.limit_micros == 6

    await eventually(arrived)


async def test_a_stream_that_begins_anew_is_not_waited_for(both: list[_Governor]) -> None:
    """A place that the broker does not have any more is as good as reached."""
    one, _ = both
    await one.store.reach(1_000)
    assert one.store.position == 1_000


async def test_governor_that_starts_knows_the_newest_word_on_each_budget(
    both: list[_Governor], nats_url: str
) -> None:
    """Also that one is gone: what was counted under an earlier word may have missed something."""
    one, _ = both
    assert one.budgets.written(_PLACE) == 0
    _, place = await one.store.set(_budget(), etag="", request_id="")
    assert one.budgets.written(_PLACE) == place
    removed = await one.store.delete(_PLACE, etag="")
    assert one.budgets.written(_PLACE) == removed
    async with AsyncExitStack() as stack:
        later = await _governor(stack, nats_url, datetime.now(UTC) + timedelta(days=34))
        assert later.budgets.written(_PLACE) == removed


async def test_budgets_of_a_stream_that_is_gone_are_forgotten(
    both: list[_Governor], nats_url: str
) -> None:
    """Where it is created anew, what was set in the one before is in force nowhere, and places that
    are small again count."""
    one, other = both
    for limit in range(5, 9):
        _, place = await one.store.set(_budget(limit), etag="", request_id="")
        await other.store.reach(place)
    age, before = other.store.created_ms, other.store.position
    link: Any = vars(one.bus)["_link"]
    await link.ask_json("$JS.API.STREAM.DELETE.BUDGETS", {})
    async with AsyncExitStack() as stack:
        # Creates it.
        third = await _governor(stack, nats_url, datetime.now(UTC))
        stored, place = await one.store.set(_budget(3), etag="", request_id="")
        assert place < before
        await third.store.reach(place)
        await other.store.refresh()
        for each in (*both, third):
            assert each.store.created_ms > age
            assert each.budgets.stored() == [stored]
            assert (each.store.position, each.budgets.written(_PLACE)) == (place, place)


async def test_removed_budgets_leave_nothing_in_the_end(
    both: list[_Governor], nats_url: str
) -> None:
    """Their last word is kept for as long as there may be a counter of theirs."""
    one, _ = both
    await one.store.set(_budget(), etag="", request_id="")
    await one.store.delete(_PLACE, etag="")
    assert len(await one.bus.subjects("BUDGETS", ">")) == 1
    async with AsyncExitStack() as stack:
        later = await _governor(stack, nats_url, datetime(2999, 1, 1, tzinfo=UTC))
        assert len(await one.bus.subjects("BUDGETS", ">")) == 0
        stored, _ = await later.store.set(_budget(7), etag="0", request_id="")

    async def arrived() -> bool:
        return one.budgets.get(_PLACE) == stored

    await eventually(arrived)
