"""Batch calls: many items in one call, each with its own identity, deadline and outcome."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Sequence,
)
from contextvars import copy_context
from typing import Any, Final, Protocol, TypeVar

from google.protobuf import duration_pb2

from agentmesh.common.v1 import batch_pb2
from meshkit import deadline, identity, log, trace
from meshkit.constants import BATCH_TENANT, SERVICE_CALLER
from meshkit.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidField,
    MeshError,
    TooLarge,
    from_status,
)
from meshkit.log import Log
from meshkit.rpc_guard import conceal

Q = TypeVar("Q")
A = TypeVar("A")

_MAX_ITEMS: Final = 256


def item_context(
    timeout_seconds: float, *, index: int = 0, idempotency_key: str = ""
) -> batch_pb2.ItemContext:
    """What an item carries: the identity, trace and deadline that hold here and now.

    The item gets `timeout_seconds`, or less where less is left.
    """
    who = identity.current()
    span = trace.current()
    seconds = deadline.timeout_for(timeout_seconds)
    return batch_pb2.ItemContext(
        index=index,
        tenant=who.tenant,
        caller=who.caller,
        timeout=duration_pb2.Duration(seconds=int(seconds), nanos=int(seconds % 1 * 1e9)),
        traceparent=span.traceparent if span else "",
        idempotency_key=idempotency_key,
    )


async def in_time(answer: Awaitable[A], context: batch_pb2.ItemContext, who: str) -> A:
    """The answer to an item, if it comes in the item's time; else DeadlineExceeded.

    Whoever serves the item keeps to that time by itself, unless it hangs.
    """
    seconds = context.timeout.ToNanoseconds() / 1e9
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await answer
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            f"{who} did not answer within {seconds:.3g} seconds.", metadata={"limit": "call"}
        ) from error


class Item(Protocol):
    """An item of a batch request."""

    @property
    def context(self) -> batch_pb2.ItemContext:
        """Whose it is; changes to it change the item."""
        ...


ItemType = TypeVar("ItemType", bound=Item)


async def exchange(
    items: Sequence[tuple[int, ItemType]], send: Callable[[Sequence[ItemType]], AsyncIterable[Any]]
) -> AsyncGenerator[tuple[int, Any]]:
    """Sends a coalescer's numbered items with one batch call, and gives each answer or error.

    `send` makes the call; its answers have `results`, and those `index`, `response`
    and `error`, as all batch forms of the contracts do.
    """
    for number, item in items:
        item.context.index = number
    async for some in send([item for _, item in items]):
        for result in some.results:
            failed = result.HasField("error")
            yield result.index, from_status(result.error) if failed else result.response


def item_identity(context: batch_pb2.ItemContext, envelope: identity.Identity) -> identity.Identity:
    """For whom an item acts, in a batch that came for `envelope`.

    Raises Forbidden for another tenant's item, and InvalidField for one without a timeout.
    """
    # Only services make calls for many tenants and callers, and those say so.
    is_service = envelope.caller.startswith(SERVICE_CALLER)
    if envelope.tenant != context.tenant and not (is_service and envelope.tenant == BATCH_TENANT):
        raise Forbidden(
            f"A call of tenant {envelope.tenant} cannot carry an item of {context.tenant!r}."
        )
    if context.timeout.seconds <= 0 and context.timeout.nanos <= 0:
        raise InvalidField("context.timeout", "must be over zero")
    caller = context.caller if is_service and context.caller else envelope.caller
    return identity.make(context.tenant, caller)


async def serve_items(
    items: Sequence[Q],
    context_of: Callable[[Q], batch_pb2.ItemContext],
    call: Callable[[Q], Awaitable[A]],
    *,
    max_items: int = _MAX_ITEMS,
    to: Log | None = None,
) -> AsyncGenerator[Sequence[tuple[int, A | MeshError]]]:
    """Runs `call` for each item at the same time; gives answers as they come.

    Each answer goes with its item's index; those ready together come together.
    Each item runs under its own identity, deadline and trace, and fails by
    itself. TooLarge for more than `max_items`. When the batch is cancelled, so
    are its items. Faults are logged to `to`.
    """
    if len(items) > max_items:
        raise TooLarge(
            f"A batch of {len(items)} items is over the limit of {max_items}.",
            metadata={"limit_items": str(max_items), "size_items": str(len(items))},
        )
    faults = to or log.get("batch")
    envelope = identity.current()
    ready: list[tuple[int, A | MeshError]] = []
    wake = asyncio.Event()

    async def serve(item: Q) -> None:
        context = context_of(item)
        try:
            outcome: A | MeshError = await _run(item, context, call, envelope)
        except Exception as error:  # an item's failure must not end the others
            outcome = conceal(error, faults)
        ready.append((context.index, outcome))
        wake.set()

    loop = asyncio.get_running_loop()
    tasks = [loop.create_task(serve(item), context=copy_context()) for item in items]
    answered = 0
    try:
        while answered < len(tasks):
            await wake.wait()
            wake.clear()
            answers = ready.copy()
            ready.clear()
            answered += len(answers)
            yield answers
    finally:
        for task in tasks:
            task.cancel()


async def _run(
    item: Q,
    context: batch_pb2.ItemContext,
    call: Callable[[Q], Awaitable[A]],
    envelope: identity.Identity,
) -> A:
    identity.adopt(item_identity(context, envelope))
    seconds = context.timeout.seconds + context.timeout.nanos / 1e9
    trace.adopt(trace.child(trace.parse(context.traceparent)))
    deadline.adopt(seconds)
    limit = asyncio.timeout(seconds)
    try:
        async with limit:
            return await call(item)
    except TimeoutError as error:
        if not limit.expired():
            raise
        raise DeadlineExceeded(
            f"The item was not done within {seconds:.3g} seconds.", metadata={"limit": "call"}
        ) from error
