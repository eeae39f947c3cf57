"""How a protocol comes to its socket, under TLS or in plain text."""

import asyncio
import ssl
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar

from meshwire.tls_transport import TlsTransport

P = TypeVar("P", bound=asyncio.Protocol)


async def connected(
    connect: Callable[[Callable[[], asyncio.Protocol]], Awaitable[Any]],
    make: Callable[[], P],
    tls: ssl.SSLContext | None,
    *,
    handshake_seconds: float,
    called: str | None = None,
) -> P:
    """The protocol that `make` gives, once it is connected.

    Args:
        connect: A loop's way to connect what it is to make.
        make: Makes the protocol.
        tls: None for plain text.
        handshake_seconds: How long TLS may take to begin.
        called: As `TlsTransport` has it.

    Raises:
        OSError: What connecting failed with, ssl.SSLError and TimeoutError among it.
    """
    if tls is not None:
        transport = TlsTransport(make, tls, handshake_seconds=handshake_seconds, called=called)
        await connect(lambda: transport)
        return await transport.opened()
    protocol = make()
    try:
        await connect(lambda: protocol)
    except BaseException:
        # Where it was there already, uvloop takes its transport without a word.
        protocol.connection_lost(None)
        raise
    return protocol
