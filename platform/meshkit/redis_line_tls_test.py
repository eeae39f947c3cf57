"""The shared connection against a real server that speaks TLS alone with its clients."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast
from urllib.parse import urlencode

import pytest
import trustme

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable
from meshkit.redis_line import RedisLine
from meshtest.child_server import ChildServer, binary, exchange, free_port

_HOST: Final = "127.0.0.1"


@dataclass(frozen=True, slots=True)
class _Identity:
    """A certificate and its key as files."""

    certificate: Path
    key: Path


class _TlsRedis(ChildServer):
    """Redis with certificates of its own authority, which asks its clients for theirs."""

    def __init__(self, folder: Path, name: str) -> None:
        """`name`: whom its certificate is for."""
        executable, authority = binary("REDIS_SERVER"), trustme.CA()
        self.authority: Final = folder / "authority.pem"
        authority.cert_pem.write_to_path(self.authority)
        server = _identity(authority, folder, name)
        self.client: Final = _identity(authority, folder, "client.example")
        self.tls_port: Final = free_port()
        super().__init__(
            lambda port: [
                *(executable, "--bind", _HOST, "--dir", folder, "--save", ""),
                # Without TLS, to see whether it is up.
                *("--port", str(port), "--tls-port", str(self.tls_port)),
                *("--tls-cert-file", server.certificate, "--tls-key-file", server.key),
                *("--tls-ca-cert-file", self.authority, "--tls-auth-clients", "yes"),
            ],
            log_path=folder / "redis.log",
            answers=lambda port: exchange(port, b"PING\r\n").startswith(b"+PONG"),
        )


def _identity(authority: trustme.CA, folder: Path, name: str) -> _Identity:
    made = authority.issue_cert(name)
    found = _Identity(folder / f"{name}.pem", folder / f"{name}.key")
    made.cert_chain_pems[0].write_to_path(found.certificate)
    made.private_key_pem.write_to_path(found.key)
    return found


def _settings(server: _TlsRedis) -> dict[str, object]:
    """What a client needs to know, as parameters of the address."""
    return {
        "ssl_ca_certs": server.authority,
        "ssl_certfile": server.client.certificate,
        "ssl_keyfile": server.client.key,
    }


@pytest.fixture
def server(tmp_path: Path, name: str) -> Iterator[_TlsRedis]:
    """A running, empty server whose certificate is for `name`."""
    running = _TlsRedis(tmp_path, name)
    running.start()
    yield running
    running.kill()


def _address(server: _TlsRedis, settings: Mapping[str, object]) -> str:
    return f"rediss://{_HOST}:{server.tls_port}/2?{urlencode(settings)}"


@pytest.mark.parametrize("name", [_HOST])
async def test_it_speaks_tls_as_its_client_does(server: _TlsRedis) -> None:
    """With the client's authority and certificate; both write to the same place."""
    address = _address(server, _settings(server))
    async with redis_store.connect(address) as client, RedisLine(client) as line:
        assert await line.ask([["SET", "a", "x" * 100_000]]) == [b"OK"]
        assert await cast(Any, client).get("a") == b"x" * 100_000
        server.restart()
        assert await line.ask([["PING"]]) == [b"PONG"]


@pytest.mark.parametrize(
    ("name", "without", "cause"),
    [
        (_HOST, ["ssl_ca_certs"], "certificate verify failed"),
        ("redis.example", [], "IP address mismatch"),
        (_HOST, ["ssl_certfile", "ssl_keyfile"], ""),
    ],
    ids=["unknown authority", "another host", "no certificate"],
)
async def test_who_is_not_trusted_is_not_talked_to(
    server: _TlsRedis, without: list[str], cause: str
) -> None:
    """Whether the client does not trust the server, or the server the client."""
    settings = {key: value for key, value in _settings(server).items() if key not in without}
    address = _address(server, settings)
    async with redis_store.connect(address) as client, RedisLine(client) as line:
        with pytest.raises(DependencyUnavailable, match=f"^Failed to reach Redis: .*{cause}"):
            await line.ask([["PING"]])
