"""The short way of messages through the client, on a real server."""

import asyncio
from contextlib import suppress

import pytest

from meshkit.bus_client import WireClient
from meshkit.bus_wire import WireMessage, head
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer

pytest_plugins = ["meshtest.fixtures"]

_INFO = b'INFO {"max_payload": 1048576}\r\n'


class _Heard:
    """Remembers what came; stumbles over `bad`."""

    def __init__(self) -> None:
        self.messages: list[WireMessage] = []

    def take(self, message: WireMessage) -> None:
        if message.data == b"bad":
            raise ValueError("no good")
        self.messages.append(message)

    @property
    def data(self) -> list[bytes]:
        return [message.data for message in self.messages]

    async def until(self, data: list[bytes]) -> None:
        """Returns when this has been heard, and nothing else."""

        async def heard() -> bool:
            return len(self.messages) >= len(data)

        await eventually(heard)
        assert self.data == data


async def _connected(nats_server: NatsServer, told: list[str]) -> WireClient:
    async def tell(error: Exception) -> None:
        told.append(str(error))

    client = WireClient()
    await client.connect(
        nats_server.url, error_cb=tell, reconnect_time_wait=0, max_reconnect_attempts=-1
    )
    return client


async def test_a_listener_that_fails_is_told_of_and_hears_the_next(nats_server: NatsServer) -> None:
    """Nor does it keep messages from others."""
    told: list[str] = []
    client = await _connected(nats_server, told)
    one, other = _Heard(), _Heard()
    await client.listen("a", one.take)
    await client.listen(">", other.take)
    for data in (b"1", b"bad", b"2"):
        client.send("a", data)
    client.send("b", b"3", "r", head({"k": "v"}))
    await other.until([b"1", b"2", b"3"])
    assert one.data == [b"1", b"2"]
    assert (other.messages[2].reply, other.messages[2].headers) == ("r", {"k": "v"})
    assert told == ["no good", "no good"]
    await client.close()


async def test_who_stopped_listening_hears_nothing(nats_server: NatsServer) -> None:
    """Others of the connection do."""
    client = await _connected(nats_server, [])
    one, other = _Heard(), _Heard()
    subscription = await client.listen("a", one.take)
    await client.listen("a", other.take)
    await subscription.unsubscribe()
    client.send("a", b"1")
    await other.until([b"1"])
    assert one.data == []
    await client.close()


async def test_who_stops_after_what_is_on_its_way_hears_that_alone(
    nats_server: NatsServer,
) -> None:
    """Nor anything that a server sends that took the former one's place."""
    client = await _connected(nats_server, [])
    one, other = _Heard(), _Heard()
    subscription = await client.listen("a", one.take)
    client.send("a", b"1")
    await subscription.drain()
    assert one.data == [b"1"]
    await client.listen("a", other.take)
    nats_server.restart()
    await eventually(lambda: client.stats["reconnects"] == 1)
    client.send("a", b"2")
    await other.until([b"2"])
    assert one.data == [b"1"]
    assert client._subs.keys() == {2}  # pyright: ignore[reportPrivateUsage]
    await client.close()


async def test_what_is_sent_while_the_server_is_away_arrives_later(nats_server: NatsServer) -> None:
    """And who listened is heard of by the new server."""
    client = await _connected(nats_server, [])
    heard = _Heard()
    await client.listen("a", heard.take)
    await client.flush()
    await asyncio.to_thread(nats_server.stop)

    async def away() -> bool:
        return not client.is_connected

    await eventually(away)
    client.send("a", b"1")
    await asyncio.to_thread(nats_server.start)
    await heard.until([b"1"])
    await client.close()


async def test_more_than_fits_into_a_buffer_is_sent(nats_server: NatsServer) -> None:
    """Who makes room waits until it is written."""
    client = await _connected(nats_server, [])
    heard = _Heard()
    await client.listen("a", heard.take)
    for _ in range(8):
        client.send("a", b"x" * 1_000_000)
        await client.make_room()
        assert client.pending_data_size <= 3_000_000
    await heard.until([b"x" * 1_000_000] * 8)
    await client.close()


class _Server:
    """Speaks as a NATS server does at first, and then says something that none says."""

    def __init__(self) -> None:
        self.connections = 0

    async def then(self) -> None:
        """What happens when it has said who it is."""

    async def serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        """One connection."""
        self.connections += 1
        writer.write(_INFO)
        await self.then()
        with suppress(asyncio.IncompleteReadError):
            await reader.readuntil(b"PING\r\n")
        writer.write(b"PONG\r\n" + b"MSG a 1 what\r\n" * (self.connections == 1))
        with suppress(ConnectionError):
            await reader.read()
        writer.close()


async def test_a_server_that_talks_nonsense_is_left_and_asked_anew() -> None:
    """What cannot be read says nothing about where the next message begins."""
    server = _Server()
    listening = await asyncio.start_server(server.serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        client = WireClient()
        await client.connect(
            f"nats://127.0.0.1:{port}", reconnect_time_wait=0, max_reconnect_attempts=-1
        )
        await eventually(lambda: server.connections == 2)
        await client.close()


@pytest.mark.parametrize("turns", range(6))
async def test_who_closes_while_it_connects_again_is_closed(turns: int) -> None:
    """Whatever the server answers at that moment."""
    closing: list[asyncio.Task[None]] = []
    client = WireClient()

    class Server(_Server):
        async def then(self) -> None:
            if self.connections == 2:
                for _ in range(turns):
                    await asyncio.sleep(0)
                closing.append(asyncio.create_task(client.close()))

    listening = await asyncio.start_server(Server().serve, "127.0.0.1", 0)
    async with listening:
        port = listening.sockets[0].getsockname()[1]
        await client.connect(
            f"nats://127.0.0.1:{port}", reconnect_time_wait=0, max_reconnect_attempts=-1
        )
        await eventually(lambda: closing)
        await closing[0]
        assert client.is_closed
        # Nothing is left that could connect once more.
        assert [each for each in asyncio.all_tasks() if "reconnect" in repr(each.get_coro())] == []


async def test_a_connection_that_breaks_is_noticed_at_once(nats_server: NatsServer) -> None:
    """It does not take a ping that stays without an answer."""
    told: list[str] = []
    client = await _connected(nats_server, told)
    nats_server.restart()
    await eventually(lambda: client.stats["reconnects"] == 1)
    assert told[0] == "nats: unexpected EOF"
    await client.close()


async def test_who_is_cancelled_while_the_server_answers_stops_waiting(
    nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A cancel counts also in the turn of the loop in which the answer comes."""
    client = await _connected(nats_server, [])
    answered = client._process_pong  # pyright: ignore[reportPrivateUsage]

    async def both() -> None:
        await answered()
        flushing.cancel()

    monkeypatch.setattr(client, "_process_pong", both)
    flushing = asyncio.create_task(client.flush())
    await asyncio.wait([flushing])
    assert flushing.cancelled()
    await client.close()
