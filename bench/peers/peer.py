"""What is asked of a system that is measured, and what is found out about it."""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Protocol

from bench.peers.closed_loop import Load


class PeerUnavailable(Exception):
    """A system cannot be installed, started or measured here; the text says why and what to do."""


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one system."""

    tasks_per_minute: float
    p50_ms: float
    p99_ms: float
    # Processor time for a task, by part of the system; its client is one of them.
    cpu_ms: Mapping[str, float]

    @property
    def cpu_ms_per_task(self) -> float:
        """Of all parts together."""
        return sum(self.cpu_ms.values())


class Peer(Protocol):
    """A system that runs the reference task."""

    @property
    def name(self) -> str:
        """As in options and in JSON."""
        ...

    @property
    def title(self) -> str:
        """For people."""
        ...

    @property
    def takes_turns(self) -> bool:
        """Whether its processes are to take turns at the processors, being quicker so."""
        ...

    def install(self) -> str:
        """Brings what it needs, if that is not there yet; returns how it is set, for people.

        Raises:
            PeerUnavailable: It cannot be had here.
        """
        ...

    def run(self, load: Load, folder: Path) -> Figures:
        """Starts it with its state in an empty folder, puts the load on it, and ends it.

        Raises:
            PeerUnavailable: It did not start, or did not get through.
        """
        ...
