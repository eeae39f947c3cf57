"""Streams that a peer ends while its caller still sends."""

import asyncio
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest

from meshkit.client import Channels
from meshkit.constants import UNREACHED_KEY
from meshkit.errors import MeshError
from meshkit.rpc_channel import Unreached

_STREAMS = 200


async def _turn_away(requests: AsyncIterator[bytes], context: Any) -> None:
    await anext(requests)
    await anext(requests)
    await context.abort(grpc.StatusCode.UNAVAILABLE, "no healthy upstream", ((UNREACHED_KEY, "1"),))


class _Handlers(grpc.GenericRpcHandler):
    def service(self, handler_call_details: Any) -> Any:
        """Answers any call alike."""
        make: Any = grpc.stream_stream_rpc_method_handler
        return make(_turn_away)


@asynccontextmanager
async def _channel(single_address: bool) -> AsyncGenerator[grpc.aio.Channel]:
    server = grpc.aio.server()
    server.add_generic_rpc_handlers((_Handlers(),))
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    try:
        targets = {"tool": f"127.0.0.1:{port}"}
        async with Channels(
            targets, caller="service:test", single_address=single_address
        ) as channels:
            yield channels.get("tool")
    finally:
        await server.stop(None)


async def _requests() -> AsyncGenerator[bytes]:
    for number in range(100):
        yield b"x"
        # Some are sent while the answer is under way.
        await asyncio.sleep(number % 5 * 1e-4)


@pytest.mark.parametrize("single_address", [False, True], ids=["grpc", "wire"])
async def test_a_stream_that_is_turned_away_says_so_whatever_is_sent_meanwhile(
    single_address: bool,
) -> None:
    """So what it carried is known to have reached nobody, and may be sent again."""
    seen = Counter[type[MeshError]]()
    async with _channel(single_address) as channel:
        stub: Any = channel
        call = stub.stream_stream("/test/Many")
        for _ in range(_STREAMS):
            try:
                async for _ in call(_requests(), timeout=60):
                    pass
            except MeshError as error:
                seen[type(error)] += 1
    assert seen == {Unreached: _STREAMS}
