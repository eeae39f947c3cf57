"""The mesh's own NATS and Redis, run for a moment on a data directory on which no mesh runs."""

import os
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass

from tier import binaries, ports
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.data_dir import DataDir
from tier.events import Event, Reporter
from tier.nats_child import nats_child
from tier.ports import HOST
from tier.redis_child import redis_child


@dataclass(frozen=True, slots=True)
class Stores:
    """Where the servers of a mesh are."""

    nats_url: str
    redis_url: str


@asynccontextmanager
async def own_servers(data_dir: DataDir) -> AsyncGenerator[Stores]:
    """Starts them, and ends them in order. Raises MeshStartError."""
    nats_binary, redis_binary = (
        binaries.find(each, os.environ) for each in (binaries.NATS, binaries.REDIS)
    )
    nats_port, monitor_port, redis_port = ports.free_ports(3)
    async with AsyncExitStack() as stack:
        specs = (
            # What it takes in is flushed all at once, at the end.
            nats_child(nats_binary, data_dir, nats_port, monitor_port, flushes=False),
            redis_child(redis_binary, data_dir, redis_port),
        )
        for each in [await _started(stack, spec) for spec in specs]:
            await each.ready()
        yield Stores(f"nats://{HOST}:{nats_port}", f"redis://{HOST}:{redis_port}")


async def _started(stack: AsyncExitStack, spec: ChildSpec) -> Child:
    child = Child(spec, Reporter(_ignore), RestartPolicy())
    stack.push_async_callback(child.stop)
    child.spawn()
    return child


def _ignore(_event: Event) -> None:
    """Who saves or restores tells of it by itself."""
