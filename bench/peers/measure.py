"""Puts the load on a system that runs, and looks at what it costs meanwhile."""

import json
import signal
import subprocess
import threading
from collections.abc import Mapping
from dataclasses import asdict
from pathlib import Path
from typing import Any, Final

from bench.peers.child import end, last_words, with_parent
from bench.peers.closed_loop import Load
from bench.peers.packages import own_environment
from bench.peers.peer import Figures, PeerUnavailable
from bench.peers.processor_time import processor_seconds

# What imports are found in by the programs that run in a peer's own environment.
_ROOT: Final = Path(__file__).absolute().parents[2]
# For a driver to load its libraries and to end its last tasks.
_GRACE_SECONDS: Final = 60.0


def peer_environment(environ: Mapping[str, str], **added: str) -> dict[str, str]:
    """The environment of a program of ours that runs with a peer's packages."""
    ours = {"PYTHONPATH": str(_ROOT), "PYTHONSAFEPATH": "1", "PYTHONDONTWRITEBYTECODE": "1"}
    return own_environment(environ, **ours, **added)


def measure(
    python: Path,
    driver: Path,
    load: Load,
    options: Mapping[str, Any],
    *,
    parts: Mapping[str, int],
    driver_part: str,
    environment: Mapping[str, str],
    log: Path,
) -> Figures:
    """Runs a peer's driver to its end.

    Args:
        python: The interpreter of the peer's environment.
        driver: The program; `closed_loop` says what it is told and what it says.
        load: How much, and for how long.
        options: What else the driver is told.
        parts: The pids of the system's other processes, by what they are.
        driver_part: What the driver is.
        environment: The driver's.
        log: Where the driver's errors go.

    Raises:
        PeerUnavailable: The driver failed, or took too long.
    """
    told = json.dumps({**asdict(load), **options})
    with log.open("ab") as errors:
        process = subprocess.Popen(
            with_parent([python, driver, told]),
            stdin=subprocess.DEVNULL,
            stdout=subprocess.PIPE,
            stderr=errors,
            text=True,
            env=environment,
            start_new_session=True,
        )
    most_seconds = load.warm_up_seconds + load.seconds + _GRACE_SECONDS
    deadline = threading.Timer(most_seconds, process.kill)
    deadline.start()
    pids = {driver_part: process.pid, **parts}
    at: dict[str, dict[str, float]] = {}
    result: dict[str, float] = {}
    try:
        for line in process.stdout or ():
            event = json.loads(line)
            if event["event"] == "result":
                result = event
            else:
                at[event["event"]] = {part: processor_seconds(pid) for part, pid in pids.items()}
        code = process.wait()
    finally:
        deadline.cancel()
        end(process, signal.SIGTERM)
    if code == -signal.SIGKILL:
        raise PeerUnavailable(f"The load was not through within {most_seconds:g} s.")
    if code != 0 or not result:
        raise PeerUnavailable(f"The load failed: {last_words(log)}")
    used = {part: at["measured"][part] - at["measuring"][part] for part in pids}
    tasks = result["tasks"]
    return Figures(
        tasks_per_minute=tasks / result["seconds"] * 60,
        p50_ms=result["p50_ms"],
        p99_ms=result["p99_ms"],
        cpu_ms={part: seconds * 1e3 / tasks for part, seconds in used.items()},
    )
