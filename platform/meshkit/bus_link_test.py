"""What is asked while there is no connection."""

import asyncio

from nats.aio.client import Client

from meshkit.bus_link import Link

pytest_plugins = ["meshtest.fixtures"]


async def test_what_is_asked_as_the_connection_breaks_waits_for_the_next_one(nats_url: str) -> None:
    """Also before the client has told that it broke: all else goes on meanwhile."""
    link = await Link.open(nats_url, name="test")
    try:
        link.client._status = Client.RECONNECTING  # pyright: ignore[reportPrivateUsage]
        asking = asyncio.create_task(link.ask_json("$JS.API.INFO", {}))
        for _ in range(3):
            await asyncio.sleep(0)
        assert not asking.done()
        link.client._status = Client.CONNECTED  # pyright: ignore[reportPrivateUsage]
        await link.note_reconnect()
        assert (await asking)["streams"] == 0
    finally:
        await link.close()
