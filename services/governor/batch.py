"""Serves a batch in portions: each is one round trip to the counters."""

import asyncio
from collections.abc import Awaitable, Callable, Sequence
from typing import Final, Protocol, TypeVar

from google.rpc import status_pb2

from agentmesh.common.v1 import batch_pb2
from meshkit import errors, identity
from meshkit.batch import item_identity

MAX_ITEMS: Final = 256
# How many are worked on at a time: no single call waits here, or in Redis, behind more of them.
PORTION: Final = 64

Request = TypeVar("Request")
Call = TypeVar("Call")
Outcome = TypeVar("Outcome")
Response = TypeVar("Response")
Request_co = TypeVar("Request_co", covariant=True)


class Item(Protocol[Request_co]):
    """An item of a batch request."""

    @property
    def context(self) -> batch_pb2.ItemContext:
        """Whose it is."""
        ...

    @property
    def request(self) -> Request_co:
        """What the single form would be called with."""
        ...


async def answer_one(
    request: Request,
    decode: Callable[[Request], Call],
    act: Callable[[Sequence[Call]], Awaitable[Sequence[Outcome | errors.MeshError]]],
    encode: Callable[[Call, Outcome], Response],
) -> Response:
    """The answer to a single call; raises its error."""
    call = decode(request)
    (outcome,) = await act([call])
    if isinstance(outcome, errors.MeshError):
        raise outcome
    return encode(call, outcome)


async def answer_all(
    items: Sequence[Item[Request]],
    decode: Callable[[Request], Call],
    act: Callable[[Sequence[Call]], Awaitable[Sequence[Outcome | errors.MeshError]]],
    encode: Callable[[Call, Outcome], Response],
) -> list[tuple[int, Response | status_pb2.Status]]:
    """The index and the answer, or the error, of each item.

    Each is decoded under its own identity. All are done within a few round trips,
    so the shortest of their time limits needs no watching of its own. TooLarge
    for more than 256 items.
    """
    if len(items) > MAX_ITEMS:
        raise errors.TooLarge(
            f"A batch of {len(items)} items is over the limit of {MAX_ITEMS}.",
            metadata={"limit_items": str(MAX_ITEMS), "size_items": str(len(items))},
        )
    envelope = identity.current()
    answers: list[tuple[int, Response | status_pb2.Status]] = []
    for first in range(0, len(items), PORTION):
        if first:
            # What others have waiting comes in between.
            await asyncio.sleep(0)
        portion = items[first : first + PORTION]
        answers += await _answer_portion(portion, envelope, decode, act, encode)
    return answers


async def _answer_portion(
    items: Sequence[Item[Request]],
    envelope: identity.Identity,
    decode: Callable[[Request], Call],
    act: Callable[[Sequence[Call]], Awaitable[Sequence[Outcome | errors.MeshError]]],
    encode: Callable[[Call, Outcome], Response],
) -> list[tuple[int, Response | status_pb2.Status]]:
    answers: list[tuple[int, Response | status_pb2.Status]] = []
    calls: list[tuple[int, Call]] = []
    for item in items:
        try:
            with identity.use(item_identity(item.context, envelope)):
                calls.append((item.context.index, decode(item.request)))
        except errors.MeshError as error:
            answers.append((item.context.index, errors.to_status(error)))
    if calls:
        outcomes = await act([call for _, call in calls])
        for (index, call), outcome in zip(calls, outcomes, strict=True):
            if isinstance(outcome, errors.MeshError):
                answers.append((index, errors.to_status(outcome)))
            else:
                answers.append((index, encode(call, outcome)))
    return answers
