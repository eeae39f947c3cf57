"""A server whose methods are named as their kinds, and a client of gRPC's that calls it."""

from collections.abc import AsyncGenerator, AsyncIterator, Callable
from contextlib import asynccontextmanager
from typing import Any

import grpc

from meshtest.eventually import eventually
from meshwire.server import Limits, Server

SERVICE = "test.v1.TestService"
UNBOUNDED = (
    ("grpc.max_receive_message_length", -1),
    ("grpc.max_send_message_length", -1),
    ("grpc.absolute_max_metadata_size", 1 << 20),
    ("grpc.max_metadata_size", 1 << 20),
)
KINDS: dict[str, Callable[..., Any]] = {
    "unary_unary": grpc.unary_unary_rpc_method_handler,
    "unary_stream": grpc.unary_stream_rpc_method_handler,
    "stream_unary": grpc.stream_unary_rpc_method_handler,
    "stream_stream": grpc.stream_stream_rpc_method_handler,
}


@asynccontextmanager
async def serving(**behaviours: Any) -> AsyncGenerator[Any]:
    """A channel to a server that has one method of each kind that is named."""
    async with listening(behaviours) as port, connect(port) as channel:
        yield channel


@asynccontextmanager
async def listening(behaviours: dict[str, Any], tls: Any = None) -> AsyncGenerator[int]:
    """The port of a server that has these methods."""
    server = Server(Limits(most_message_bytes=9 << 20))
    handlers = {name: KINDS[name](behaviour) for name, behaviour in behaviours.items()}
    server.add(SERVICE, handlers)
    try:
        yield await server.listen("127.0.0.1:0", tls)
    finally:
        await server.stop(0)


def connect(port: int) -> Any:
    """A channel that takes whatever comes."""
    return grpc.aio.insecure_channel(f"127.0.0.1:{port}", options=UNBOUNDED)


def method(channel: Any, kind: str, **codec: Any) -> Any:
    """How that method is called."""
    return getattr(channel, kind)(f"/{SERVICE}/{kind}", **codec)


async def say(request: bytes, context: Any) -> bytes:
    """Answers what it is told."""
    return request


async def repeat(request: bytes, context: Any) -> AsyncIterator[bytes]:
    """Answers it three times."""
    for _ in range(3):
        yield request


async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
    """Answers all at once."""
    return b"".join([each async for each in requests])


async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
    """Answers each as it comes."""
    async for each in requests:
        yield each


async def stream_of(*messages: bytes) -> AsyncIterator[bytes]:
    """Messages one by one."""
    for message in messages:
        yield message


async def stands_still(channel: Any, count: Callable[[], int]) -> None:
    """Returns when `count` is over zero and a whole call passes without its growing."""
    seen = -1

    async def stands() -> bool:
        nonlocal seen
        before, seen = seen, count()
        # By the time of this answer, whatever could be sent before it was.
        await method(channel, "unary_unary")(b"", timeout=60)
        return before == count() > 0

    await eventually(stands)
