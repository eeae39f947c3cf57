"""LangGraph with its PostgreSQL checkpointer: a process that is client and worker in one."""

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
# A checkpointer does one thing at a time: with one for all, tasks would wait in line.
_CHECKPOINTERS: Final = 16


class LangGraph:
    """Graphs that are called where they run, checkpointed before each next node."""

    def __init__(self, packages: Packages, environ: Mapping[str, str]) -> None:
        self.name: Final = "langgraph"
        self.title: Final = "LangGraph"
        self.takes_turns: Final = True
        self._packages: Final = packages
        self._environ: Final = environ

    def install(self) -> str:
        """LangGraph and its checkpointer from pip, and PostgreSQL."""
        self._python()
        programs = server.find(self._environ, self._packages)
        graph, saver = (
            locked_version(_LOCK, each) for each in ("langgraph", "langgraph-checkpoint-postgres")
        )
        return (
            f"langgraph {graph}, langgraph-checkpoint-postgres {saver}, durability=sync, graphs "
            f"called directly in one process with uvloop, {_CHECKPOINTERS} checkpointers with a "
            f"connection each to {programs.version()}, {server.SETTINGS}"
        )

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts PostgreSQL and measures."""
        programs = server.find(self._environ, self._packages)
        with server.running(programs, folder, own_environment(self._environ)) as postgres:
            return measure(
                self._python(),
                _HERE / "driver.py",
                load,
                {"database": postgres.url, "checkpointers": _CHECKPOINTERS},
                parts={"postgres": postgres.pid},
                driver_part="client and worker",
                environment=peer_environment(
                    self._environ, LANGSMITH_TRACING="false", LANGCHAIN_TRACING_V2="false"
                ),
                log=folder / "driver.log",
            )

    def _python(self) -> Path:
        return self._packages.python(self.name, _LOCK)
