"""Whole services, as their composition roots build them, in one process for a test."""

import asyncio
import io
from collections.abc import AsyncGenerator, Awaitable, Callable, Iterable, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, suppress
from functools import partial
from pathlib import Path

from meshkit import log, redis_store, stored_keys
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.clock import Clock, SystemClock
from meshkit.ids import Ids, RandomIds
from meshkit.open_streams import OpenStreams
from meshkit.server import MeshServer, Registration
from meshkit.service import Resources, Service
from meshtest.child_server import free_port
from meshtest.everywhere import Everywhere

Build = Callable[[Resources], Awaitable[Service]]


@asynccontextmanager
async def hosting(
    builds: Sequence[Build],
    *,
    data_dir: Path,
    nats_url: str,
    redis_url: str = "redis://127.0.0.1:1",
    beside: Sequence[Registration] = (),
    clock: Clock | None = None,
    ids: Ids | None = None,
    task_partitions: int | None = None,
) -> AsyncGenerator[Channels]:
    """Builds and serves services, and runs their background jobs.

    Args:
        builds: What makes each service, such as `lambda resources: build(resources, settings)`.
        data_dir: Where they keep files.
        nats_url: A real NATS server.
        redis_url: A real Redis server; the default is none.
        beside: Further services on the same server: scripted ones that these call.
        clock: The system's where None.
        ids: Random ones where None.
        task_partitions: Of a log that is yet to be made; one where None.

    Yields:
        Channels that lead to everything that is served, under every name.
    """
    address = f"127.0.0.1:{free_port()}"
    async with AsyncExitStack() as stack:
        silent = log.get("test", stream=io.StringIO())
        bus = await stack.enter_async_context(await Bus.connect(nats_url, name="test"))
        redis = redis_store.connect(redis_url)
        stack.push_async_callback(redis.aclose)
        channels = await stack.enter_async_context(
            Channels(Everywhere(address), caller="service:test")
        )
        resources = Resources(
            stack=stack,
            bus=bus,
            redis=redis,
            channels=channels,
            clock=clock or SystemClock(),
            ids=ids or RandomIds(),
            log=silent,
            data_dir=data_dir,
            task_partitions=task_partitions,
        )
        services = [await build(resources) for build in builds]
        streams = OpenStreams(partial(stored_keys.revoked, bus), resources.clock)
        server = MeshServer(
            name="test",
            address=address,
            registrations=[*beside, *(each for one in services for each in one.registrations)],
            log=silent,
            default_tenant="default",
            # Streams stay open for half a second, for a batch that may follow.
            drain_seconds=0.0,
            streams=streams,
        )
        serving = asyncio.create_task(server.serve())
        await server.started()
        callers = _begin(job for one in services for job in one.callers)
        others = [
            asyncio.create_task(streams.follow_keys()),
            *_begin(job for one in services for job in one.background),
        ]
        try:
            yield channels
        finally:
            # As a process does: who makes calls ends while they are answered.
            for tasks in (callers, [serving], others):
                await _end(tasks)


def _begin(jobs: Iterable[Callable[[], Awaitable[None]]]) -> list[asyncio.Future[None]]:
    return [asyncio.ensure_future(job()) for job in jobs]


async def _end(tasks: Sequence[asyncio.Future[None]]) -> None:
    for task in tasks:
        task.cancel()
    for task in tasks:
        with suppress(asyncio.CancelledError):
            await task
