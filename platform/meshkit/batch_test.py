"""Tests of serving batches."""

import asyncio
import io
from collections.abc import Awaitable, Callable, Iterator

import pytest
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.batch_pb2 import ItemContext
from meshkit import batch, deadline, identity, log, trace
from meshkit.errors import (
    Conflict,
    DeadlineExceeded,
    Forbidden,
    Internal,
    InvalidField,
    MeshError,
    TooLarge,
)
from meshkit.identity import Identity
from meshtest.eventually import eventually

_QUIET = log.get("test", stream=io.StringIO())


def _item(index: int, tenant: str = "ada", seconds: float = 5.0) -> ItemContext:
    with identity.use(Identity(tenant, f"user:{index}")):
        return batch.item_context(seconds, index=index)


async def _collect(
    items: list[ItemContext], call: Callable[[ItemContext], Awaitable[object]]
) -> dict[int, object]:
    groups = batch.serve_items(items, lambda item: item, call, to=_QUIET)
    return {index: outcome async for answers in groups for index, outcome in answers}


@pytest.fixture(autouse=True)
def _of_a_service() -> Iterator[None]:
    with identity.use(identity.BATCH):
        yield


async def test_each_item_runs_under_its_own_identity_deadline_and_trace() -> None:
    """Items see their own tenant, caller, deadline and trace, whatever the others have."""
    span = trace.child()
    with trace.use(span):
        traced = _item(1, "ada", 2.0)
    plain = _item(2, "bob", 60.0)

    async def call(item: ItemContext) -> tuple[Identity, bool, str]:
        await asyncio.sleep(0)
        current = trace.current()
        assert current is not None
        return identity.current(), (deadline.remaining_seconds() or 0) < 3, current.trace_id

    outcomes = await _collect([traced, plain], call)
    assert outcomes[1] == (Identity("ada", "user:1"), True, span.trace_id)
    assert isinstance(outcomes[2], tuple)
    assert outcomes[2][:2] == (Identity("bob", "user:2"), False)
    assert outcomes[2][2] != span.trace_id


async def test_answers_come_as_they_are_ready() -> None:
    """A slow item holds nobody up, and answers that are ready together come together."""
    gate = asyncio.Event()

    async def call(item: ItemContext) -> int:
        if item.index == 0:
            await gate.wait()
        return item.index

    groups: list[list[int]] = []
    async for answers in batch.serve_items(
        [_item(index) for index in range(4)], lambda item: item, call, to=_QUIET
    ):
        groups.append(sorted(index for index, _ in answers))
        gate.set()
    assert groups == [[1, 2, 3], [0]]


async def test_items_fail_by_themselves() -> None:
    """An error, a fault and a missed deadline each answer their own item."""

    async def call(item: ItemContext) -> int:
        match item.index:
            case 1:
                raise Conflict("taken")
            case 2:
                raise ValueError("secret")
            case 3:
                await asyncio.Event().wait()
            case _:
                pass
        return item.index

    items = [_item(0), _item(1), _item(2), _item(3, seconds=0.05), _item(4, seconds=9)]
    items[4].timeout.Clear()
    outcomes = await _collect(items, call)
    assert outcomes[0] == 0
    assert {index: type(outcome) for index, outcome in outcomes.items() if index} == {
        1: Conflict,
        2: Internal,
        3: DeadlineExceeded,
        4: InvalidField,
    }
    fault = outcomes[2]
    assert isinstance(fault, MeshError)
    assert "secret" not in fault.message


async def test_a_tenant_cannot_carry_anothers_items() -> None:
    """A batch of one tenant refuses items of another; one of a service takes any."""

    async def call(item: ItemContext) -> int:
        return item.index

    with identity.use(Identity("ada", "user:1")):
        outcomes = await _collect([_item(0, "ada"), _item(1, "bob")], call)
    assert outcomes[0] == 0
    assert isinstance(outcomes[1], Forbidden)


@pytest.mark.parametrize(
    ("envelope", "item_tenant", "becomes"),
    [
        (identity.BATCH, "acme", "service:executor"),
        (Identity("acme", "service:executor"), "acme", "service:executor"),
        # A user's item cannot say that a service calls, nor travel for everybody.
        (Identity("acme", "user:ada"), "acme", "user:ada"),
        (Identity(identity.BATCH.tenant, "user:ada"), "acme", None),
    ],
)
def test_only_services_speak_for_others(
    envelope: Identity, item_tenant: str, becomes: str | None
) -> None:
    """What an item says of its caller counts if a service sends it."""
    context = ItemContext(
        tenant=item_tenant,
        caller="service:executor",
        timeout=Duration(seconds=1),
    )
    if becomes is None:
        with pytest.raises(Forbidden):
            batch.item_identity(context, envelope)
        return
    assert batch.item_identity(context, envelope) == Identity(item_tenant, becomes)


async def test_a_batch_over_the_limit_is_refused() -> None:
    """More than 256 items are TooLarge."""

    async def call(item: ItemContext) -> int:
        return item.index

    with pytest.raises(TooLarge, match="A batch of 257 items is over the limit of 256"):
        await _collect([_item(index) for index in range(257)], call)


async def test_a_large_batch_is_served_so_many_items_at_a_time() -> None:
    """One that is done makes room for the next, and each is answered once."""
    running = most = 0

    async def call(item: ItemContext) -> int:
        nonlocal running, most
        running += 1
        most = max(most, running)
        for _ in range(1 + item.index % 3):
            await asyncio.sleep(0)
        running -= 1
        return item.index

    items = [_item(index) for index in range(256)]
    groups = batch.serve_items(items, lambda item: item, call, at_once=64, to=_QUIET)
    answers = [answer async for some in groups for answer in some]
    assert sorted(answers) == [(index, index) for index in range(256)]
    assert most == 64


async def test_an_item_that_waits_for_its_turn_loses_time_by_it() -> None:
    """One whose time is over by then is answered so, and not begun."""
    begun: list[int] = []

    async def call(item: ItemContext) -> int:
        begun.append(item.index)
        if item.index < 2:
            await asyncio.Event().wait()
        return round(deadline.remaining_seconds() or 0)

    items = [_item(index, seconds=0.05) for index in range(3)] + [_item(3, seconds=60)]
    groups = batch.serve_items(items, lambda item: item, call, at_once=2, to=_QUIET)
    outcomes = {index: outcome async for some in groups for index, outcome in some}
    assert begun == [0, 1, 3]
    assert {type(outcomes.pop(index)) for index in range(3)} == {DeadlineExceeded}
    assert outcomes == {3: 60}


async def test_a_cancelled_batch_cancels_its_items() -> None:
    """When the caller goes away, the items stop."""
    running = 0

    async def call(item: ItemContext) -> int:
        nonlocal running
        running += 1
        try:
            await asyncio.Event().wait()
        finally:
            running -= 1
        return 0

    task = asyncio.ensure_future(_collect([_item(0), _item(1)], call))
    await eventually(lambda: running == 2)
    task.cancel()
    await eventually(lambda: running == 0)


def test_an_items_timeout_is_what_is_left() -> None:
    """The context of an item never outlives the caller's deadline."""
    with identity.use(Identity("ada", "user:1")), deadline.limit(1):
        context = batch.item_context(60, idempotency_key="k")
    assert context.timeout.seconds == 0
    assert context.timeout.nanos > 0.9e9
    assert (context.tenant, context.caller, context.idempotency_key) == ("ada", "user:1", "k")
