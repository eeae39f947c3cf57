"""Agentmesh itself: `agentmesh bench tasks` as a process, for a round at a time."""

import json
import signal
import subprocess
import sys
import threading
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final, Literal

from bench.peers.child import end, last_words, with_parent
from bench.peers.closed_loop import Load
from bench.peers.peer import Figures, PeerUnavailable
from tier.python_child import python_environment

# For a mesh to start, to be audited and to end.
_GRACE_SECONDS: Final = 180.0
_DURABILITY: Final = {
    "default": "JetStream on disk, synced every two minutes (survives a crash of any process)",
    "always": "JetStream on disk, every write synced (survives a power cut, too)",
}


class Agentmesh:
    """A mesh with a gateway, identity, a governor and a process for each service."""

    def __init__(self, sync: Literal["default", "always"], environ: Mapping[str, str]) -> None:
        """`sync` is when the broker's writes are synced to disk."""
        self._sync: Final = sync
        self._environ: Final = environ
        self.name: Final = "agentmesh" if sync == "default" else "agentmesh-sync"
        self.title: Final = "Agentmesh" if sync == "default" else "Agentmesh, synced"
        # Staging sees to it by itself.
        self.takes_turns: Final = False

    def install(self) -> str:
        """Nothing: it is what runs this."""
        return f"tier staging, one executor, client through the gateway; {_DURABILITY[self._sync]}"

    def run(self, load: Load, folder: Path) -> Figures:
        """Has `agentmesh bench tasks` start a mesh, measure and audit it."""
        errors = folder / "bench.log"
        command = [sys.executable, "-P", "-m", "cli.main", "bench", "tasks", "--json"]
        command += ["--rounds=1", f"--seconds={load.seconds:g}", f"--sync={self._sync}"]
        command += [f"--warm-up={load.warm_up_seconds:g}", f"--in-flight={load.in_flight}"]
        with errors.open("ab") as log:
            process = subprocess.Popen(
                with_parent(command),
                stdin=subprocess.DEVNULL,
                stdout=subprocess.PIPE,
                stderr=log,
                text=True,
                env={**self._environ, **python_environment(), "TMPDIR": str(folder)},
                start_new_session=True,
            )
        seconds = load.warm_up_seconds + load.seconds + _GRACE_SECONDS
        deadline = threading.Timer(seconds, process.terminate)
        deadline.start()
        try:
            answer, _ = process.communicate()
        finally:
            deadline.cancel()
            end(process, signal.SIGTERM)
        if not answer:
            raise PeerUnavailable(f"`agentmesh bench tasks` failed: {last_words(errors)}")
        return figures_of(json.loads(answer))


def figures_of(report: Mapping[str, Any]) -> Figures:
    """The figures in the JSON of `agentmesh bench tasks`.

    Raises:
        PeerUnavailable: The round did not go well, so its figures mean nothing.
    """
    if not report["good"]:
        wrong = ("errors", "deaths", "lost", "doubled", "unproven")
        told = {key: report[key] for key in wrong if report[key]}
        found = list(report["audit"]["findings"])[:3]
        raise PeerUnavailable(f"The round did not go well: {told or ''} {found or ''}".rstrip())
    (counted,) = [each for each in report["rounds"] if each["counted"]]
    return Figures(
        tasks_per_minute=counted["tasks_per_minute"],
        p50_ms=counted["p50_ms"],
        p99_ms=counted["p99_ms"],
        cpu_ms=counted["cpu_ms_by_process"],
    )
