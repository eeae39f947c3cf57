"""A real PostgreSQL server."""

import struct
from contextlib import suppress
from pathlib import Path
from typing import Final

import psutil

from meshtest.child_server import ChildServer, binary, exchange

_USER: Final = "agentmesh"
_DATABASE: Final = "postgres"
# Version 3.0 of its protocol.
_PROTOCOL: Final = 196_608
_KILL_SECONDS: Final = 60.0


class PostgresServer(ChildServer):
    """Started in a folder of its own; keeps port and data over restarts."""

    def __init__(self, folder: Path) -> None:
        folder.mkdir(parents=True, exist_ok=True)
        self._executable: Final = binary("POSTGRES_SERVER")
        self.data: Final = folder / "data"
        self._databases = 0
        super().__init__(
            lambda port: [
                *(self._executable, self.data, "-p", str(port)),
                *("-c", "listen_addresses=127.0.0.1", "-c", "unix_socket_directories="),
                # The disk of a test does not fail.
                *("-c", "fsync=off"),
            ],
            log_path=folder / "postgres.log",
            answers=_answers,
        )

    @property
    def url(self) -> str:
        """Where clients connect, as the superuser."""
        return self.url_of(_DATABASE)

    def url_of(self, database: str, *, user: str = _USER) -> str:
        """Where clients connect to a database."""
        return f"postgresql://{user}@127.0.0.1:{self.port}/{database}"

    def new_database(self, *, like: str = "template1") -> str:
        """Where clients connect to a database that nobody has used yet.

        `like`: the name of the one that it is a copy of, to which nobody is connected.
        """
        # Few tests come here, and all that start any server would import it.
        import psycopg

        self._databases += 1
        name = f"test_{self._databases}"
        with psycopg.connect(self.url, autocommit=True) as connection:
            connection.execute(f'CREATE DATABASE "{name}" TEMPLATE "{like}"'.encode())
        return self.url_of(name)

    def kill(self) -> None:
        """Ends the server as a crash would, with all its processes."""
        if self._process is not None:
            try:
                processes = psutil.Process(self._process.pid).children(recursive=True)
            except psutil.NoSuchProcess:
                processes = []
            super().kill()
            for each in processes:
                # They may end by themselves when they miss the first one.
                with suppress(psutil.NoSuchProcess):
                    each.kill()
            psutil.wait_procs(processes, timeout=_KILL_SECONDS)


def _answers(port: int) -> bool:
    parameters = f"user\0{_USER}\0database\0{_DATABASE}\0\0".encode()
    startup = struct.pack("!II", len(parameters) + 8, _PROTOCOL) + parameters
    # An R asks for a password or welcomes; an E says that it is still starting.
    return exchange(port, startup).startswith(b"R")
