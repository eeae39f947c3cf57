"""How an executor stops listening for tasks."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

from services.executor.queue_news import QueueNews


class _NoQueues:
    async def all(self) -> AsyncIterator[Any]:
        for each in ():
            yield each


async def test_a_cancel_counts_when_something_was_missed_at_that_moment() -> None:
    """Or an executor that is to end while NATS comes back would look for ever."""
    nothing: Any = None
    queues: Any = _NoQueues()
    news = QueueNews(nothing, queues)
    looked = asyncio.Event()
    looking = asyncio.create_task(news.look(looked.set, lambda _queue, _depth: None))
    await looked.wait()
    news.look_soon()
    looking.cancel()
    await asyncio.wait([looking], timeout=10)
    assert looking.cancelled()
