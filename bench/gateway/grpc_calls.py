"""Calls of a gRPC server, with as little work as can be, so that servers are measured.

gRPC's own client takes half a millisecond and several turns of its threads for a call: beside a
client for HTTP that takes microseconds it would be measured, and not what it calls.
"""

import asyncio
from collections.abc import Mapping
from typing import Final

from bench.gateway.http2_connection import Http2Connection, Message, OpenCall, header_block

_HEADERS: Final = {"content-type": "application/grpc", "te": "trailers", "grpc-timeout": "30S"}


class GrpcCalls:
    """Calls of one server, all of them over one connection, as gRPC makes them."""

    def __init__(self, address: str, headers: Mapping[str, str]) -> None:
        """Connects when it is called first, to HOST:PORT; `headers` go with each call."""
        self._address: Final = address
        self._headers: Final = {**_HEADERS, **headers}
        self._blocks: Final[dict[str, bytes]] = {}
        self._connection: Http2Connection | None = None
        self._connecting: Final = asyncio.Lock()

    async def ask(self, method: str, request: bytes, answer: Message) -> None:
        """Calls `/service/method`, and gives `answer` each message of it. Raises CallFailed."""
        block = self._block(method)
        connection = await self._connected()
        await connection.ask(block, request, answer)

    async def begin(self, method: str, answer: Message) -> OpenCall:
        """Calls `/service/method`, whose messages are still to be sent; else as `ask`."""
        block = self._block(method)
        connection = await self._connected()
        return connection.begin(block, answer)

    def close(self) -> None:
        """Closes the connection; nothing is under way any more."""
        if self._connection is not None:
            self._connection.close()

    def _block(self, method: str) -> bytes:
        block = self._blocks.get(method)
        if block is None:
            block = header_block(self._address, method, self._headers)
            self._blocks[method] = block
        return block

    async def _connected(self) -> Http2Connection:
        connection = self._connection
        if connection is None or not connection.usable:
            connection = await self._connect()
        return connection

    async def _connect(self) -> Http2Connection:
        async with self._connecting:
            if self._connection is None or not self._connection.usable:
                host, _, port = self._address.rpartition(":")
                loop = asyncio.get_running_loop()
                _, self._connection = await loop.create_connection(Http2Connection, host, int(port))
            return self._connection
