"""What is written at one end of TLS is read at the other, and nothing else."""

import asyncio
import socket
import ssl
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from typing import Any, Final, cast

import pytest
import trustme
from hypothesis import given, settings
from hypothesis import strategies as st

from meshtest.eventually import eventually
from meshwire.tls_transport import TlsTransport

pytest_plugins = ["meshtest.both_loops"]

_HOST: Final = "127.0.0.1"
_LONG: Final = 60.0
_AUTHORITY: Final = trustme.CA()


def _context(own: str | None, trusted: trustme.CA = _AUTHORITY) -> ssl.SSLContext:
    is_server = own == _HOST
    context = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER if is_server else ssl.PROTOCOL_TLS_CLIENT)
    if own is not None:
        cast(Any, _AUTHORITY.issue_cert(own)).configure_cert(context)
    cast(Any, trusted).configure_trust(context)
    context.verify_mode = ssl.CERT_REQUIRED
    return context


_SERVER: Final = _context(_HOST)
_CLIENT: Final = _context("client.test")


class _End(asyncio.Protocol):
    """The protocol above TLS."""

    def __init__(self) -> None:
        self.transport: asyncio.Transport
        self.read = b""
        self.lost: list[Exception | None] = []
        self.paused: list[bool] = []

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self.transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self.read += data

    def connection_lost(self, exc: Exception | None) -> None:
        self.lost.append(exc)

    def pause_writing(self) -> None:
        self.paused.append(True)

    def resume_writing(self) -> None:
        self.paused.append(False)


_Tls = TlsTransport[_End]


@dataclass
class _Listener:
    port: int = 0
    ends: list[_End] = field(default_factory=list[_End])
    transports: list[_Tls] = field(default_factory=list[_Tls])


@asynccontextmanager
async def _listening(context: ssl.SSLContext = _SERVER) -> AsyncGenerator[_Listener]:
    listener = _Listener()

    def made() -> _End:
        listener.ends.append(_End())
        return listener.ends[-1]

    def connection() -> _Tls:
        listener.transports.append(TlsTransport(made, context, handshake_seconds=_LONG))
        return listener.transports[-1]

    server = await asyncio.get_running_loop().create_server(connection, _HOST, 0)
    try:
        listener.port = server.sockets[0].getsockname()[1]
        yield listener
    finally:
        server.close()
        for each in listener.transports:
            each.abort()


async def _connected(
    port: int, context: ssl.SSLContext = _CLIENT, *, called: str = _HOST, seconds: float = _LONG
) -> _End:
    _, tls = await asyncio.get_running_loop().create_connection(
        lambda: TlsTransport(_End, context, handshake_seconds=seconds, called=called), _HOST, port
    )
    return await tls.opened()


async def _pair(listener: _Listener, context: ssl.SSLContext = _CLIENT) -> tuple[_End, _End]:
    client = await _connected(listener.port, context)
    await eventually(lambda: len(listener.ends) == 1)
    return client, listener.ends[0]


@pytest.mark.parametrize("version", [ssl.TLSVersion.TLSv1_2, ssl.TLSVersion.TLSv1_3])
async def test_what_is_written_is_read_in_its_order(version: ssl.TLSVersion) -> None:
    """Both ways, in pieces of any size, in both versions that are spoken."""
    context = _context("client.test")
    context.minimum_version = context.maximum_version = version
    said = [b"1", bytes(16_384), b"2" * 16_385, b"", b"3" * 1_000_000, b"4"]
    async with _listening() as listener:
        client, server = await _pair(listener, context)
        for each in said:
            client.transport.write(each)
            server.transport.write(each + b"!")
        await eventually(lambda: len(server.read) == sum(map(len, said)))
        assert server.read == b"".join(said)
        expected = b"".join(each + b"!" for each in said)
        await eventually(lambda: len(client.read) == len(expected))
        assert client.read == expected
        spoken = client.transport.get_extra_info("ssl_object").version()
        assert spoken == version.name.replace("_", ".")


async def test_what_openssl_takes_in_parts_is_read_as_a_whole() -> None:
    """As it may be set to take no more than a record at a time."""

    class Reluctant(ssl.SSLObject):
        def write(self, data: Any) -> int:
            return super().write(data[:1000])

    context = _context("client.test")
    context.sslobject_class = Reluctant
    said = bytes(range(256)) * 64
    async with _listening() as listener:
        client, server = await _pair(listener, context)
        client.transport.write(said)
        await eventually(lambda: len(server.read) == len(said))
        assert server.read == said


async def test_each_end_sees_the_certificate_of_the_other() -> None:
    """Beside what is known of the socket."""
    async with _listening() as listener:
        client, server = await _pair(listener)
        names = server.transport.get_extra_info("ssl_object").getpeercert()["subjectAltName"]
        assert names == (("DNS", "client.test"),)
        names = client.transport.get_extra_info("ssl_object").getpeercert()["subjectAltName"]
        assert names == (("IP Address", _HOST),)
        assert client.transport.get_extra_info("peername") == (_HOST, listener.port)
        assert client.transport.get_extra_info("none", "of these") == "of these"


async def test_what_was_written_before_the_end_arrives() -> None:
    """The other end hears of an orderly end, and is gone then."""
    async with _listening() as listener:
        client, server = await _pair(listener)
        # Who closes before it has read the server's tickets takes back what it wrote.
        server.transport.write(b"welcome")
        await eventually(lambda: client.read == b"welcome")
        client.transport.write(b"x" * 3_000_000)
        client.transport.close()
        assert client.transport.is_closing()
        client.transport.write(b"too late")
        await eventually(lambda: server.lost and client.lost)
        assert server.read == b"x" * 3_000_000
        assert server.lost == client.lost == [None]


async def test_an_end_that_reads_slowly_is_waited_for() -> None:
    """The writer is told to pause, and to go on once what it wrote was read."""
    async with _listening() as listener:
        client, server = await _pair(listener)
        server.transport.pause_reading()
        written = 0
        while not client.paused:
            client.transport.write(bytes(1 << 20))
            written += 1 << 20
            await asyncio.sleep(0)
        assert client.paused == [True]
        server.transport.resume_reading()
        await eventually(lambda: len(server.read) == written)
        await eventually(lambda: client.paused == [True, False])


async def test_a_server_of_another_name_or_authority_is_left() -> None:
    """Nothing is said to it, and it hears why."""
    async with _listening() as listener:
        with pytest.raises(ssl.SSLCertVerificationError, match="IP address mismatch"):
            await _connected(listener.port, called="127.0.0.2")
        with pytest.raises(ssl.SSLCertVerificationError, match="self-signed"):
            await _connected(listener.port, _context("client.test", trustme.CA()))
        with pytest.raises(ssl.SSLError, match="ALERT"):
            await listener.transports[0].opened()
        assert not listener.ends


async def test_a_client_that_is_not_trusted_hears_why() -> None:
    """By the time that it knows, it has finished its own part of the handshake."""
    async with _listening(_context(_HOST, trustme.CA())) as listener:
        client = await _connected(listener.port)
        await eventually(lambda: client.lost)
        assert "ALERT_UNKNOWN_CA" in str(client.lost[0])
        with pytest.raises(ssl.SSLCertVerificationError):
            await listener.transports[0].opened()
    async with _listening() as listener:
        client = await _connected(listener.port, _context(None))
        await eventually(lambda: client.lost)
        assert "CERTIFICATE_REQUIRED" in str(client.lost[0])


async def test_who_speaks_no_tls_is_left() -> None:
    """Whichever end it is."""
    async with _listening() as listener:
        reader, writer = await asyncio.open_connection(_HOST, listener.port)
        writer.write(b"GET / HTTP/1.1\r\n\r\n")
        await reader.read()
        with pytest.raises(ssl.SSLError, match="HTTP_REQUEST"):
            await listener.transports[0].opened()
        writer.close()


async def test_a_handshake_has_an_end() -> None:
    """By its limit, when the other end goes, and when nobody waits for it any more."""
    came: list[asyncio.StreamWriter] = []

    async def silent(_: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        came.append(writer)

    server = await asyncio.start_server(silent, _HOST, 0)
    async with server:
        port: int = server.sockets[0].getsockname()[1]
        with pytest.raises(TimeoutError):
            await _connected(port, seconds=0.01)
        waiting = asyncio.create_task(_connected(port))
        await eventually(lambda: len(came) == 2)
        came[1].close()
        with pytest.raises(ConnectionResetError):
            await waiting
        tls: _Tls
        _, tls = await asyncio.get_running_loop().create_connection(
            lambda: TlsTransport(_End, _CLIENT, handshake_seconds=_LONG, called=_HOST), _HOST, port
        )
        given_up = asyncio.create_task(tls.opened())
        await asyncio.sleep(0)
        given_up.cancel()
        with pytest.raises(asyncio.CancelledError):
            await given_up
        assert tls.is_closing()
        await eventually(lambda: len(came) == 3)
        for each in came:
            each.close()


async def test_who_is_not_reached_leaves_nothing_behind() -> None:
    """No handshake has begun there that could take too long."""
    faults: list[object] = []
    asyncio.get_running_loop().set_exception_handler(lambda _, fault: faults.append(fault))
    with socket.create_server((_HOST, 0)) as silent, socket.socket() as none:
        none.bind((_HOST, 0))
        with pytest.raises(ConnectionRefusedError):
            await _connected(none.getsockname()[1], seconds=0.01)
        with pytest.raises(TimeoutError):
            await _connected(silent.getsockname()[1], seconds=0.01)
    assert not faults


async def test_nobody_waits_for_a_protocol_that_fails_at_its_beginning(
    monkeypatch: pytest.MonkeyPatch,
) -> None:
    """Whoever would is told why."""
    monkeypatch.setattr(_End, "connection_made", None)
    async with _listening() as listener:
        with pytest.raises(TypeError, match="not callable"):
            await asyncio.wait_for(_connected(listener.port), _LONG)


class _Wire(asyncio.Transport):
    """What one end has sent, until it is carried to the other."""

    def __init__(self) -> None:
        super().__init__()
        self.sent = b""
        self.is_closed = False
        self.is_aborted = False

    def write(self, data: bytes | bytearray | memoryview) -> None:
        self.sent += data

    def close(self) -> None:
        self.is_closed = True

    def abort(self) -> None:
        self.is_closed = self.is_aborted = True

    def is_closing(self) -> bool:
        return self.is_closed


class _Offline:
    """Two ends, and a way between them that takes what it is given in pieces."""

    def __init__(self) -> None:
        self.ends = _End(), _End()
        client, server = self.ends
        self.wires = _Wire(), _Wire()
        self.tls = (
            TlsTransport(lambda: client, _CLIENT, handshake_seconds=_LONG, called=_HOST),
            TlsTransport(lambda: server, _SERVER, handshake_seconds=_LONG),
        )
        for tls, wire in zip(self.tls, self.wires, strict=True):
            tls.connection_made(wire)

    def carry(self, size: Callable[[], int]) -> None:
        """Until nobody has anything to say, so many bytes at a time."""
        while any(each.sent for each in self.wires):
            for wire, other in zip(self.wires, reversed(self.tls), strict=True):
                part = size()
                piece, wire.sent = wire.sent[:part], wire.sent[part:]
                if piece:
                    other.data_received(piece)

    def end(self) -> None:
        """As the loop does it."""
        for each in self.tls:
            each.connection_lost(None)


@settings(max_examples=60, deadline=None)
@given(
    said=st.lists(st.tuples(st.booleans(), st.integers(0, 40_000)), max_size=6),
    sizes=st.lists(st.integers(1, 50_000), min_size=1, max_size=8),
)
def test_it_makes_no_difference_in_which_pieces_it_arrives(
    said: list[tuple[bool, int]], sizes: list[int]
) -> None:
    """Neither during the handshake nor after it."""

    async def run() -> None:
        both, at = _Offline(), iter(range(10**9))
        both.carry(lambda: sizes[next(at) % len(sizes)])
        expected = [b"", b""]
        for number, (by_client, length) in enumerate(said):
            data = bytes([number]) * length
            both.ends[not by_client].transport.write(data)
            expected[by_client] += data
        both.carry(lambda: sizes[next(at) % len(sizes)])
        assert [each.read for each in both.ends] == expected
        both.end()

    asyncio.run(run())


@settings(max_examples=60, deadline=None)
@given(at=st.integers(0, 10**6), by=st.integers(1, 255))
def test_what_was_changed_on_the_way_is_never_read(at: int, by: int) -> None:
    """The connection ends there, and says that it was no orderly end."""

    async def run() -> None:
        both = _Offline()
        both.carry(lambda: 1 << 20)
        client, server = both.ends
        client.transport.write(b"first")
        both.carry(lambda: 1 << 20)
        client.transport.write(b"second" * 10)
        wire = both.wires[0]
        changed = bytearray(wire.sent)
        # Behind the head of the record, which says how long it is.
        changed[5 + at % (len(changed) - 5)] ^= by
        wire.sent = bytes(changed)
        both.carry(lambda: 1 << 20)
        assert server.read == b"first"
        assert both.wires[1].is_closed
        server.transport.write(b"nothing more")
        assert not both.wires[1].sent
        both.end()
        assert isinstance(server.lost[0], ssl.SSLError)

    asyncio.run(run())


@pytest.mark.parametrize("says", ["that it ends", "nothing more", "what is no record"])
async def test_an_end_that_reads_nothing_more_is_left_soon(
    says: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However it ended. Nothing is left to be done to one that is gone."""
    monkeypatch.setattr("meshwire.tls_transport._CLOSE_SECONDS", 0.01)
    gone, stays = _Offline(), _Offline()
    for both in (gone, stays):
        both.carry(lambda: 1 << 20)
        if says == "that it ends":
            both.ends[0].transport.close()
            both.carry(lambda: 1 << 20)
        elif says == "nothing more":
            both.tls[1].eof_received()
        else:
            both.tls[1].data_received(b"GET / HTTP/1.1\r\n\r\n")
        assert both.wires[1].is_closed
    gone.end()
    await eventually(lambda: stays.wires[1].is_aborted)
    assert not gone.wires[1].is_aborted
    stays.end()
