"""Requests that are posted, by a channel that takes them at once and by one that asks for them."""

import asyncio

from meshwire.posted_requests import PostedRequests


def test_what_is_posted_before_the_call_begins_goes_first() -> None:
    """In the order in which it was posted, and the end after all of it."""
    requests, sent = PostedRequests(), list[str]()
    requests.post("a")
    requests.post("b")
    requests.attach(sent.append, lambda: sent.append("end"))
    assert sent == ["a", "b"]
    requests.post("c")
    requests.end()
    assert sent == ["a", "b", "c", "end"]


def test_a_call_that_begins_after_the_end_is_ended() -> None:
    """With what was posted."""
    requests, sent = PostedRequests(), list[str]()
    requests.post("a")
    requests.end()
    requests.attach(sent.append, lambda: sent.append("end"))
    assert sent == ["a", "end"]


async def test_a_channel_may_ask_for_each() -> None:
    """It waits for the next one until there are no more."""
    requests = PostedRequests()
    requests.post("a")

    async def ask() -> list[str]:
        return [each async for each in requests]

    asking = asyncio.create_task(ask())
    await asyncio.sleep(0)
    assert not asking.done()
    requests.post("b")
    requests.end()
    assert await asyncio.wait_for(asking, 60) == ["a", "b"]
