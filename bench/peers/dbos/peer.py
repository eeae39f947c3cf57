"""DBOS: a process that is client and worker in one, and PostgreSQL."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from bench.peers.closed_loop import Load
from bench.peers.measure import measure, peer_environment
from bench.peers.packages import Packages, locked_version, own_environment
from bench.peers.peer import Figures
from bench.peers.postgres import server

_HERE: Final = Path(__file__).parent
_LOCK: Final = _HERE / "requirements.lock.txt"
# DBOS's own default.
_CONNECTIONS: Final = 20


class Dbos:
    """Workflows that are called where they run, without a queue: DBOS at its quickest."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "dbos"
        self.title: Final = "DBOS"
        self.takes_turns: Final = True
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """DBOS from pip, and PostgreSQL."""
        self._python()
        programs = server.find(self._environ, self._packages)
        return (
            f"dbos {locked_version(_LOCK, 'dbos')}, async workflows called directly in one process "
            f"with uvloop, {_CONNECTIONS} connections to {programs.version()}, {server.SETTINGS}"
        )

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts PostgreSQL and measures."""
        programs = server.find(self._environ, self._packages)
        with server.running(programs, folder, own_environment(self._environ)) as postgres:
            return measure(
                self._python(),
                _HERE / "driver.py",
                load,
                {"database": postgres.url, "connections": _CONNECTIONS},
                parts={"postgres": postgres.pid},
                driver_part="client and worker",
                environment=peer_environment(self._environ),
                log=folder / "driver.log",
            )

    def _python(self) -> Path:
        return self._packages.python(self.name, _LOCK)
