"""PostgreSQL as a child: for the read model of several coordinators, and the governors' ledger."""

import asyncio
import secrets
import shlex
import signal
import struct
import time
from collections.abc import Mapping
from contextlib import suppress
from dataclasses import dataclass
from pathlib import Path
from typing import Final
from urllib.parse import quote

import psutil

from meshkit.time_limit import within
from tier.certificate_files import write_private
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.ports import HOST

NAME: Final = "postgres"
LAUNCHER: Final = Path("third_party/postgres/launcher.sh.in")
_USER: Final = "agentmesh"
_DATABASE: Final = "postgres"
_TIMEOUT_SECONDS: Final = 1.0
# The first start makes the data; another one may have a crash to recover from.
_READY_SECONDS: Final = 90.0
# What was killed is gone at once, unless the disk keeps it.
_CLEAR_SECONDS: Final = 5.0
_PAUSE_SECONDS: Final = 0.02
# Version 3.0 of its protocol.
_PROTOCOL: Final = 196_608
# Each coordinator and each governor has up to seven.
_CONNECTIONS: Final = 300


@dataclass(frozen=True, slots=True)
class PostgresAccess:
    """How a process of the mesh comes in."""

    # As settings name it, without a password.
    address: str
    # The password, as the library of PostgreSQL reads it; its owner's alone.
    password_file: Path

    @property
    def whole_address(self) -> str:
        """With the file of the password, for who is given no environment."""
        return f"{self.address}?passfile={quote(str(self.password_file))}"

    @property
    def environment(self) -> Mapping[str, str]:
        """To be added to that of a process that may come in."""
        return {"PGPASSFILE": str(self.password_file)}


def postgres_child(
    binary: Path, data_dir: DataDir, repository: Path, port: int
) -> tuple[ChildSpec, PostgresAccess]:
    """Makes a password where there is none, and says how to run it.

    `binary`: a launcher, or the folder of its programs.
    """
    folder = data_dir.folder(NAME)
    data, password = folder / "data", folder / "password"
    if not password.exists():
        write_private(password, secrets.token_urlsafe(32).encode())
    access = access_to(data_dir.path, port)
    write_private(access.password_file, f"{HOST}:*:*:{_USER}:{password.read_text()}\n".encode())
    launcher = binary if binary.is_file() else _launcher(binary, data_dir, repository)
    _clear(data)

    async def probe() -> str | None:
        return await ready_version(port, data)

    spec = ChildSpec(
        name=NAME,
        title="PostgreSQL",
        command=(
            *(launcher, data, "-p", str(port)),
            *("-c", f"listen_addresses={HOST}", "-c", "unix_socket_directories="),
            *("-c", f"max_connections={_CONNECTIONS}", "-c", "shared_buffers=64MB"),
        ),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=(port,),
        probe=probe,
        environment={"POSTGRES_PASSWORD_FILE": str(password)},
        ready_within_seconds=_READY_SECONDS,
        # At once, and in order; at a SIGTERM it would wait until everybody has left.
        stop_signal=signal.SIGINT,
    )
    return spec, access


def access_to(data_dir: Path, port: int) -> PostgresAccess:
    """How to come into the one of the mesh on `data_dir`."""
    address = f"postgresql://{_USER}@{HOST}:{port}/{_DATABASE}"
    return PostgresAccess(address, data_dir / NAME / "pgpass")


def _launcher(programs: Path, data_dir: DataDir, repository: Path) -> Path:
    """The shipped launcher, for the programs of this machine."""
    text = (repository / LAUNCHER).read_text("utf-8")
    for name, value in (
        ("@LIBRARIES@", ""),
        ("@PROGRAMS@", shlex.quote(str(programs))),
        ("@TEMPLATE@", ""),
        ("@VERSIONS@", ""),
    ):
        text = text.replace(name, value)
    launcher = data_dir.run / "postgres-server"
    launcher.write_text(text, "utf-8")
    launcher.chmod(0o700)
    return launcher


def _clear(data: Path) -> None:
    """Ends and forgets what is left of a server that was killed; nobody else has the folder.

    Its pid may be another program's by now, and its helpers may still write.
    """
    left = data / "postmaster.pid"
    if not left.exists():
        return
    give_up = time.monotonic() + _CLEAR_SECONDS
    while orphans := _working_in(data):
        if time.monotonic() > give_up:
            # The next server says who is in its way.
            return
        for each in orphans:
            with suppress(psutil.Error):
                each.kill()
        time.sleep(_PAUSE_SECONDS)
    left.unlink(missing_ok=True)


def _working_in(folder: Path) -> list[psutil.Process]:
    """The servers' processes whose working directory this is."""
    found: list[psutil.Process] = []
    for each in psutil.process_iter():
        with suppress(psutil.Error):
            if each.name() == "postgres" and each.cwd() == str(folder):
                found.append(each)
    return found


async def ready_version(port: int, data: Path) -> str | None:
    """The version of the data, once the server lets people in; None before."""
    parameters = f"user\0{_USER}\0database\0{_DATABASE}\0\0".encode()
    startup = struct.pack("!II", len(parameters) + 8, _PROTOCOL) + parameters
    with within(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(startup)
            answer = await reader.read(1)
        finally:
            writer.close()
    # An R asks for a password; an E says that it is still starting.
    if answer != b"R":
        return None
    return (data / "PG_VERSION").read_text("ascii").strip()
