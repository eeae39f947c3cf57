"""A Redis for peers that keep their state in one, with the settings of the mesh's own."""

import contextlib
import socket
import subprocess
from collections.abc import Generator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from bench.peers.child import child, with_parent
from bench.peers.peer import PeerUnavailable
from tier.binaries import REDIS, find
from tier.failures import BinaryMissing
from tier.ports import HOST, free_ports

# How it runs, for people.
SETTINGS: Final = "appendonly, appendfsync everysec"
_CONNECT_SECONDS: Final = 1.0


@dataclass(frozen=True, slots=True)
class Server:
    """A Redis that runs."""

    url: str
    pid: int


def redis_program(environ: Mapping[str, str]) -> Path:
    """The Redis that the mesh runs with.

    Raises:
        PeerUnavailable: It is not there.
    """
    try:
        return find(REDIS, environ)
    except BinaryMissing as error:
        raise PeerUnavailable(str(error)) from None


def version(program: Path) -> str:
    """What it says of itself, such as `Redis 7.0.15`."""
    said = subprocess.run([program, "--version"], capture_output=True, text=True, timeout=10)
    found = [word[2:] for word in said.stdout.split() if word.startswith("v=")]
    return f"Redis {found[0]}" if found else "Redis"


@contextlib.contextmanager
def running(
    program: Path, folder: Path, environ: Mapping[str, str]
) -> Generator[Server, None, None]:
    """Runs a new, empty Redis in a folder.

    Raises:
        PeerUnavailable: It does not start.
    """
    (port,) = free_ports(1)
    home = folder / "redis"
    home.mkdir()
    settings = {
        "bind": HOST,
        "port": str(port),
        "dir": str(home),
        "appendonly": "yes",
        "appendfsync": "everysec",
        "save": "",
    }
    options = [word for name, value in settings.items() for word in (f"--{name}", value)]
    with child(
        "Redis",
        with_parent([program, *options]),
        log=folder / "redis.log",
        environment=environ,
        ready=lambda: _answers(port),
    ) as pid:
        yield Server(f"redis://{HOST}:{port}/0", pid)


def _answers(port: int) -> bool:
    try:
        with socket.create_connection((HOST, port), _CONNECT_SECONDS) as connection:
            connection.sendall(b"PING\r\n")
            return connection.recv(16).startswith(b"+PONG")
    except OSError:
        return False
