"""gRPC's own client is served by this server as by its own: what travels, and how."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import pytest
import trustme
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec

from meshkit.tls import TlsSettings, server_contexts
from meshwire import kinds

_CODE = grpc.StatusCode
_SIZES = (0, 1, 16_383, 16_384, 16_385, 1 << 20, 8 << 20)


@pytest.mark.parametrize("size", _SIZES)
async def test_messages_of_any_size_travel_by_every_kind_of_call(size: int) -> None:
    """In both directions, unchanged."""
    content = bytes(range(256)) * (size // 256) + bytes(size % 256)
    half, rest = content[: size // 2], content[size // 2 :]
    async with kinds.serving(
        unary_unary=kinds.say,
        unary_stream=kinds.repeat,
        stream_unary=kinds.join,
        stream_stream=kinds.talk,
    ) as channel:
        assert await kinds.method(channel, "unary_unary")(content, timeout=60) == content
        repeated = kinds.method(channel, "unary_stream")(content, timeout=60)
        assert [each async for each in repeated] == [content] * 3
        joined = kinds.method(channel, "stream_unary")(kinds.stream_of(half, rest, b""), timeout=60)
        assert await joined == content
        spoken = kinds.method(channel, "stream_stream")(
            kinds.stream_of(content, b"", half), timeout=60
        )
        assert [each async for each in spoken] == [content, b"", half]


async def test_a_stream_may_have_no_messages() -> None:
    """In either direction."""
    async with kinds.serving(stream_unary=kinds.join, stream_stream=kinds.talk) as channel:
        assert await kinds.method(channel, "stream_unary")(kinds.stream_of(), timeout=60) == b""
        spoken = kinds.method(channel, "stream_stream")(kinds.stream_of(), timeout=60)
        assert [each async for each in spoken] == []
        assert await spoken.code() == _CODE.OK


async def test_thousands_of_calls_run_at_the_same_time() -> None:
    """On one connection: none ends before all have begun."""
    count, begun, go_on = 2000, 0, asyncio.Event()

    async def wait(request: bytes, context: Any) -> bytes:
        nonlocal begun
        begun += 1
        if begun == count:
            go_on.set()
        await go_on.wait()
        return request

    async with kinds.serving(unary_unary=wait) as channel:
        say = kinds.method(channel, "unary_unary")
        said = [str(each).encode() for each in range(count)]
        assert await asyncio.gather(*[say(each, timeout=60) for each in said]) == said


async def test_a_slow_reader_suspends_the_handler() -> None:
    """What waits for it is bounded; and it gets everything."""
    one, count, sent = bytes(64 << 10), 1000, 0

    async def tell(request: bytes, context: Any) -> AsyncIterator[bytes]:
        nonlocal sent
        for _ in range(count):
            yield one
            sent += 1

    async with kinds.serving(unary_stream=tell, unary_unary=kinds.say) as channel:
        call = kinds.method(channel, "unary_stream")(b"", timeout=120)
        assert await call.read() == one
        await kinds.stands_still(channel, lambda: sent)
        assert sent < count // 2
        for _ in range(count - 1):
            assert await call.read() == one
        assert await call.read() is grpc.aio.EOF


async def test_a_slow_handler_suspends_its_caller() -> None:
    """What waits for it is bounded; and it gets everything."""
    one, count, written, go_on = bytes(64 << 10), 1000, 0, asyncio.Event()

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        await go_on.wait()
        return str(sum([1 async for each in requests if each == one])).encode()

    async with kinds.serving(stream_unary=join, unary_unary=kinds.say) as channel:
        call = kinds.method(channel, "stream_unary")(timeout=120)

        async def write() -> None:
            nonlocal written
            for _ in range(count):
                await call.write(one)
                written += 1
            await call.done_writing()

        writing = asyncio.create_task(write())

        await kinds.stands_still(channel, lambda: written)
        assert written < count // 2
        go_on.set()
        await writing
        assert await call == str(count).encode()


@pytest.mark.parametrize("by", ["iterator", "context"])
async def test_thousands_of_messages_travel_both_ways_at_once(by: str) -> None:
    """In order, however their handler reads and writes them."""
    said = [str(each).encode() * (each % 300) for each in range(5000)]

    async def talk(requests: AsyncIterator[bytes], context: Any) -> None:
        while (each := await context.read()) is not grpc.aio.EOF:
            await context.write(each)

    async with kinds.serving(stream_stream=kinds.talk if by == "iterator" else talk) as channel:
        call = kinds.method(channel, "stream_stream")(kinds.stream_of(*said), timeout=120)
        assert [each async for each in call] == said


async def test_who_only_writes_does_not_stop_who_only_reads() -> None:
    """Neither end waits for the other where both write first."""
    said = [bytes(1000)] * 500

    async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        for each in said:
            yield each
        assert [each async for each in requests] == said

    async with kinds.serving(stream_stream=talk) as channel:
        call = kinds.method(channel, "stream_stream")(timeout=60)
        for each in said:
            await call.write(each)
        await call.done_writing()
        assert [each async for each in call] == said
        assert await call.code() == _CODE.OK


async def test_a_handler_may_end_before_its_caller() -> None:
    """Who then still writes is told so, and the answer counts."""

    async def join(requests: AsyncIterator[bytes], context: Any) -> bytes:
        return await anext(requests)

    async def endless() -> AsyncIterator[bytes]:
        while True:
            yield bytes(10_000)

    async with kinds.serving(stream_unary=join) as channel:
        assert await kinds.method(channel, "stream_unary")(endless(), timeout=60) == bytes(10_000)


@pytest.mark.parametrize("packing", [grpc.Compression.Gzip, grpc.Compression.Deflate])
async def test_packed_messages_are_read(packing: grpc.Compression) -> None:
    """By both ways that gRPC's clients know."""
    said = b"again and again " * 10_000
    async with kinds.serving(unary_unary=kinds.say, stream_unary=kinds.join) as channel:
        assert (
            await kinds.method(channel, "unary_unary")(said, compression=packing, timeout=60)
            == said
        )
        joined = kinds.method(channel, "stream_unary")(
            kinds.stream_of(said), compression=packing, timeout=60
        )
        assert await joined == said


async def test_certificates_say_who_calls(tmp_path: Path) -> None:
    """Who has none does not get in, and what travels is as without them."""
    authority = trustme.CA()
    settings = _settings(authority, tmp_path)
    client = authority.issue_cert("client.test")
    key, chain = client.private_key_pem.bytes(), client.cert_chain_pems[0].bytes()
    trusted = authority.cert_pem.bytes()
    names: list[Any] = []

    async def talk(requests: AsyncIterator[bytes], context: Any) -> AsyncIterator[bytes]:
        names.append((context.peer_identities(), context.auth_context()))
        async for each in requests:
            yield each

    said = [bytes(8 << 20), b"", b"1", bytes(16_384)]
    async with kinds.listening({"stream_stream": talk}, server_contexts(settings)) as port:
        for _ in range(10):
            credentials = grpc.ssl_channel_credentials(trusted, key, chain)
            async with _secure(port, credentials) as channel:
                call = kinds.method(channel, "stream_stream")(kinds.stream_of(*said), timeout=60)
                assert [each async for each in call] == said
        async with _secure(port, grpc.ssl_channel_credentials(trusted)) as channel:
            call = kinds.method(channel, "stream_stream")(kinds.stream_of(), timeout=60)
            assert await call.code() == _CODE.UNAVAILABLE
    expected = {
        "x509_pem_cert": [chain],
        "x509_subject_alternative_name": [b"client.test"],
    }
    assert names == [([b"client.test"], expected)] * 10


async def test_names_of_directories_are_no_names_of_callers(tmp_path: Path) -> None:
    """They are left out, as gRPC's own server does, and calls go on."""
    authority = trustme.CA()
    settings = _settings(authority, tmp_path)
    directory = x509.Name([x509.NameAttribute(x509.NameOID.COMMON_NAME, "client")])
    key, chain = _issued(
        authority, x509.DirectoryName(directory), x509.UniformResourceIdentifier("spiffe://a/b")
    )

    async def name(_request: bytes, context: Any) -> bytes:
        return b", ".join(context.peer_identities())

    credentials = grpc.ssl_channel_credentials(authority.cert_pem.bytes(), key, chain)
    async with (
        kinds.listening({"unary_unary": name}, server_contexts(settings)) as port,
        _secure(port, credentials) as channel,
    ):
        assert await kinds.method(channel, "unary_unary")(b"", timeout=60) == b"spiffe://a/b"


def _settings(authority: trustme.CA, folder: Path) -> TlsSettings:
    """Of a server of this authority."""
    own, trusted = folder / "own", folder / "ca"
    trusted.write_bytes(authority.cert_pem.bytes())
    authority.issue_cert("localhost").private_key_and_cert_chain_pem.write_to_path(own)
    return TlsSettings(certificate=own, key=own, authority=trusted)


def _issued(authority: trustme.CA, *names: x509.GeneralName) -> tuple[bytes, bytes]:
    """The key and the certificate of a client with these names."""
    key = ec.generate_private_key(ec.SECP256R1())
    issuer = x509.load_pem_x509_certificate(authority.cert_pem.bytes())
    signer = serialization.load_pem_private_key(authority.private_key_pem.bytes(), None)
    assert isinstance(signer, ec.EllipticCurvePrivateKey)
    certificate = (
        x509.CertificateBuilder()
        .subject_name(x509.Name([]))
        .issuer_name(issuer.subject)
        .public_key(key.public_key())
        .serial_number(x509.random_serial_number())
        .not_valid_before(issuer.not_valid_before_utc)
        .not_valid_after(issuer.not_valid_after_utc)
        .add_extension(x509.SubjectAlternativeName(names), critical=True)
        .sign(signer, hashes.SHA256())
    )
    private = key.private_bytes(
        serialization.Encoding.PEM,
        serialization.PrivateFormat.PKCS8,
        serialization.NoEncryption(),
    )
    return private, certificate.public_bytes(serialization.Encoding.PEM)


def _secure(port: int, credentials: Any) -> Any:
    # Without this, channels would share a connection.
    options = (*kinds.UNBOUNDED, ("grpc.use_local_subchannel_pool", 1))
    return cast(Any, grpc.aio.secure_channel(f"localhost:{port}", credentials, options=options))
