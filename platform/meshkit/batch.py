"""Batch calls: many items in one call, each with its own identity, deadline and outcome."""

import asyncio
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    Awaitable,
    Callable,
    Iterable,
    Sequence,
)
from itertools import islice
from typing import Any, Final, Generic, Protocol, TypeVar

from google.protobuf.message import Message

from agentmesh.common.v1 import batch_pb2
from meshkit import deadline, identity, log, trace
from meshkit.constants import BATCH_TENANT, MAX_MESSAGE_BYTES, SERVICE_CALLER
from meshkit.errors import (
    DeadlineExceeded,
    Forbidden,
    InvalidField,
    MeshError,
    QueueFull,
    TooLarge,
    from_status,
)
from meshkit.frozen import frozen
from meshkit.log import Log
from meshkit.rpc_guard import conceal, unless_cancelled
from meshkit.time_limit import within

Q = TypeVar("Q")
A = TypeVar("A")
Q_co = TypeVar("Q_co", covariant=True)

_MAX_ITEMS: Final = 256
# Of one stream.
_MAX_UNANSWERED: Final = 4096
# Of answers that go in one message, with room below the limit for one answer more.
_MOST_BYTES: Final = 1024 * 1024
_LARGEST_BYTES: Final = MAX_MESSAGE_BYTES - _MOST_BYTES


def item_context(
    timeout_seconds: float, *, index: int = 0, idempotency_key: str = ""
) -> batch_pb2.ItemContext:
    """What an item carries: the identity, trace and deadline that hold here and now.

    The item gets `timeout_seconds`, or less where less is left.
    """
    who = identity.current()
    span = trace.current()
    seconds = deadline.timeout_for(timeout_seconds)
    context = batch_pb2.ItemContext(
        index=index,
        tenant=who.tenant,
        caller=who.caller,
        traceparent=span.traceparent if span else "",
        idempotency_key=idempotency_key,
    )
    # In its place: as an argument it would be encoded and read again.
    timeout = context.timeout
    timeout.seconds, timeout.nanos = int(seconds), int(seconds % 1 * 1e9)
    return context


async def in_time(answer: Awaitable[A], context: batch_pb2.ItemContext, who: str) -> A:
    """The answer to an item, if it comes in the item's time; else DeadlineExceeded.

    Whoever serves the item keeps to that time by itself, unless it hangs.
    """
    seconds = context.timeout.seconds + context.timeout.nanos / 1e9
    limit = within(seconds)
    try:
        with limit:
            return await answer
    except TimeoutError as error:
        if not limit.ran_out:
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

    @property
    def request(self) -> Message:
        """What is asked for."""
        ...


@frozen
class Unsent:
    """An item that is put together in the message that it leaves with: each copy costs."""

    context: batch_pb2.ItemContext
    request: Message


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
    return identity.make(context.tenant, caller, envelope.role)


async def serve_items(
    items: Sequence[Q],
    context_of: Callable[[Q], batch_pb2.ItemContext],
    call: Callable[[Q], Awaitable[A]],
    *,
    max_items: int = _MAX_ITEMS,
    at_once: int = _MAX_ITEMS,
    to: Log | None = None,
) -> AsyncGenerator[Sequence[tuple[int, A | MeshError]]]:
    """Runs `call` for the items, `at_once` at the same time; gives answers as they come.

    Each answer goes with its item's index; those ready together come together.
    An item's time counts from now, also while it waits for its turn.
    Each item runs under its own identity, deadline and trace, and fails by
    itself. TooLarge for more than `max_items`. When the batch is cancelled, so
    are its items. Faults are logged to `to`.
    """
    _check_count(items, max_items)
    served = _Served(context_of, call, to or log.get("batch"))
    loop = asyncio.get_running_loop()
    came_at = loop.time()
    left = iter(items)
    served.begin(islice(left, at_once))
    try:
        while served.tasks or served.ready:
            ready = await served.some()
            served.begin(islice(left, len(ready)), waited_seconds=loop.time() - came_at)
            yield ready
    finally:
        served.stop()


class Batch(Protocol[Q_co]):
    """A message of a stream of batches."""

    @property
    def items(self) -> Sequence[Q_co]:
        """What is asked for. Their indexes are unique within the stream."""
        ...

    @property
    def withdrawn(self) -> Sequence[int]:
        """Items that came earlier and that nobody waits for any more."""
        ...


async def serve_stream(
    batches: AsyncIterable[Batch[Q]],
    context_of: Callable[[Q], batch_pb2.ItemContext],
    call: Callable[[Q], Awaitable[A]],
    *,
    max_items: int = _MAX_ITEMS,
    max_unanswered: int = _MAX_UNANSWERED,
    to: Log | None = None,
) -> AsyncGenerator[Sequence[tuple[int, A | MeshError]]]:
    """As `serve_items`, for batches that come one after another; answers in any order.

    What is withdrawn is cancelled and not answered. An item beyond
    `max_unanswered` is answered with QueueFull.
    """
    served = _Served(context_of, call, to or log.get("batch"))

    async def take() -> None:
        try:
            async for each in batches:
                _check_count(each.items, max_items)
                # What is done and not yet read counts: the peer may be slow to read.
                room = max_unanswered - len(served.tasks) - len(served.ready)
                served.begin(each.items[:room] if room < len(each.items) else each.items)
                for item in each.items[max(room, 0) :]:
                    served.refuse(item)
                for index in each.withdrawn:
                    served.withdraw(index)
                # A peer that does not read is not listened to.
                while len(served.ready) >= max_unanswered:
                    served.taken.clear()
                    await served.taken.wait()
        finally:
            served.wake.set()

    taking = asyncio.get_running_loop().create_task(take())
    try:
        while not taking.done() or served.tasks or served.ready:
            if some := await served.some():
                yield some
        # Raises what was wrong with a batch.
        await taking
    finally:
        taking.cancel()
        served.stop()


class _Served(Generic[Q, A]):
    """Items that are being served."""

    def __init__(
        self,
        context_of: Callable[[Q], batch_pb2.ItemContext],
        call: Callable[[Q], Awaitable[A]],
        faults: Log,
    ) -> None:
        self._context_of: Final = context_of
        self._call: Final = call
        self._faults: Final = faults
        self._envelope: Final = identity.current()
        # What is not done yet.
        self.tasks: Final[set[asyncio.Task[None]]] = set()
        self._by_index: Final[dict[int, asyncio.Task[None]]] = {}
        self._stopping: Final[set[asyncio.Task[None]]] = set()
        self.ready: list[tuple[int, A | MeshError]] = []
        self.wake: Final = asyncio.Event()
        self.taken: Final = asyncio.Event()

    def begin(self, items: Iterable[Q], *, waited_seconds: float = 0.0) -> None:
        loop = asyncio.get_running_loop()
        for item in items:
            context = self._context_of(item)
            task = loop.create_task(self._serve(item, context, waited_seconds))
            self.tasks.add(task)
            self._by_index[context.index] = task

    def refuse(self, item: Q) -> None:
        refusal = QueueFull(
            f"{len(self.tasks)} calls wait for an answer already.", retry_after_seconds=0.1
        )
        self.ready.append((self._context_of(item).index, refusal))
        self.wake.set()

    def withdraw(self, index: int) -> None:
        task = self._by_index.pop(index, None)
        if task is not None:
            self.tasks.discard(task)
            # The loop itself holds it weakly, and it may take a while to end.
            self._stopping.add(task)
            task.add_done_callback(self._stopping.discard)
            task.cancel()
            self.wake.set()

    async def some(self) -> Sequence[tuple[int, A | MeshError]]:
        """What is ready by now, or what comes next; nothing where something else woke it.

        No more than goes well in one message: the rest is next.
        """
        await self.wake.wait()
        self.wake.clear()
        self.taken.set()
        ready, self.ready = self.ready, []
        size_bytes = 0
        for count, (_, outcome) in enumerate(ready):
            size_bytes += _size_bytes(outcome)
            if count and size_bytes > _MOST_BYTES:
                self.ready = ready[count:]
                self.wake.set()
                return ready[:count]
        return ready

    def stop(self) -> None:
        for task in self.tasks:
            task.cancel()

    async def _serve(self, item: Q, context: batch_pb2.ItemContext, waited_seconds: float) -> None:
        index = context.index
        try:
            outcome: A | MeshError = await _run(
                item, context, self._call, self._envelope, waited_seconds
            )
            if (size_bytes := _size_bytes(outcome)) > _LARGEST_BYTES:
                raise TooLarge(
                    f"An answer of {size_bytes} bytes is over the limit of {_LARGEST_BYTES} bytes.",
                    metadata={"limit_bytes": str(_LARGEST_BYTES), "size_bytes": str(size_bytes)},
                )
        except BaseException as error:  # an item's failure must not end the others
            fault = unless_cancelled(error)
            if not isinstance(fault, Exception):
                raise
            outcome = conceal(fault, self._faults)
        task = asyncio.current_task()
        if task in self.tasks:  # else nobody waits any more
            self.tasks.discard(task)
            self._by_index.pop(index, None)
            self.ready.append((index, outcome))
            self.wake.set()


def _size_bytes(outcome: object) -> int:
    return outcome.ByteSize() if isinstance(outcome, Message) else 0


def _check_count(items: Sequence[object], max_items: int) -> None:
    if len(items) > max_items:
        raise TooLarge(
            f"A batch of {len(items)} items is over the limit of {max_items}.",
            metadata={"limit_items": str(max_items), "size_items": str(len(items))},
        )


async def _run(
    item: Q,
    context: batch_pb2.ItemContext,
    call: Callable[[Q], Awaitable[A]],
    envelope: identity.Identity,
    waited_seconds: float,
) -> A:
    identity.adopt(item_identity(context, envelope))
    seconds = context.timeout.seconds + context.timeout.nanos / 1e9
    left_seconds = seconds - waited_seconds
    trace.adopt(trace.child(trace.parse(context.traceparent)))
    if left_seconds <= 0:
        raise _not_in(seconds)
    deadline.adopt(left_seconds)
    limit = within(left_seconds)
    try:
        with limit:
            return await call(item)
    except TimeoutError as error:
        if not limit.ran_out:
            raise
        raise _not_in(seconds) from error


def _not_in(seconds: float) -> DeadlineExceeded:
    return DeadlineExceeded(
        f"The item was not done within {seconds:.3g} seconds.", metadata={"limit": "call"}
    )
