"""Services behind a real gRPC server on a free port."""

import asyncio
import io
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager, suppress

from meshkit import log
from meshkit.client import Channels
from meshkit.log import Log
from meshkit.open_streams import OpenStreams
from meshkit.server import MeshServer, Registration
from meshtest.everywhere import Everywhere


@asynccontextmanager
async def serving(
    registrations: Sequence[Registration],
    *,
    default_tenant: str | None = "default",
    caller: str = "service:test",
    to: Log | None = None,
    streams: OpenStreams | None = None,
    single_address: bool = False,
) -> AsyncGenerator[Channels]:
    """Serves the registrations, and gives channels that lead there under every name.

    Log lines go to `to`, or nowhere. `streams` end with their callers' credentials.
    Calls are made by gRPC's own channels, or as those to a `single_address` are.
    """
    server = MeshServer(
        name="test",
        address="127.0.0.1:0",
        registrations=registrations,
        log=to or log.get("test", stream=io.StringIO()),
        default_tenant=default_tenant,
        drain_seconds=1.0,
        streams=streams,
    )
    task = asyncio.create_task(server.serve())
    started = asyncio.create_task(server.started())
    await asyncio.wait([task, started], return_when=asyncio.FIRST_COMPLETED)
    try:
        if task.done():
            await task
        target = Everywhere(f"127.0.0.1:{server.port}")
        async with Channels(target, caller=caller, single_address=single_address) as channels:
            yield channels
    finally:
        started.cancel()
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
