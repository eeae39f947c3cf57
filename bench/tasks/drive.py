"""Drives a load with the client process, and notes what everything uses meanwhile."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Final

from bench.tasks.load import LOAD, OUTCOME, Load, Outcome
from bench.tasks.usage import Usage, usage
from tier.api import RunningMesh

_END_SECONDS: Final = 10.0
_LONGEST_LINE_BYTES: Final = 64 * 1024 * 1024
# Between two looks at the memory; each costs processor time that the figures contain.
_LOOK_SECONDS: Final = 5.0
CLIENT: Final = "client"

# Told the seconds that have passed, and how many tasks have ended and failed.
Tell = Callable[[float, int, int], None]


class ClientFailed(Exception):
    """The client process came to a bad end; the text says how."""


@dataclass(frozen=True, slots=True)
class Drive:
    """A load, driven."""

    outcome: Outcome
    # What was used up to each mark.
    used: tuple[Usage, ...]
    # The most resident memory of each process that was seen.
    rss_bytes: Mapping[str, int]


async def drive(load: Load, mesh: RunningMesh, tell: Tell) -> Drive:
    """Returns when every task has ended. Raises ClientFailed."""
    process = _start(load)
    try:
        return await _driven(process, mesh, tell)
    finally:
        await asyncio.to_thread(_end, process)


def _start(load: Load) -> "subprocess.Popen[bytes]":
    with tempfile.TemporaryFile() as given:
        given.write(LOAD.dump_json(load))
        given.seek(0)
        # Not asyncio's way to start a process: it forks, which gRPC complains about.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.tasks.client"],
            stdin=given,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )


async def _driven(process: "subprocess.Popen[bytes]", mesh: RunningMesh, tell: Tell) -> Drive:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    watch = _Watch(mesh, process.pid)
    async for line in reader:
        match json.loads(line):
            case {"mark": _}:
                watch.mark()
            case {"seconds": seconds, "ended": ended, "failed": failed}:
                watch.look_now_and_then()
                tell(seconds, ended, failed)
            case {"outcome": outcome}:
                return Drive(OUTCOME.validate_python(outcome), tuple(watch.used), watch.rss_bytes)
            case {"failure": str(why)}:
                raise ClientFailed(why)
            case _:
                pass
    raise ClientFailed(f"The client process ended early (exit code {process.wait()}).")


class _Watch:
    """What is used, at each mark and at the most."""

    def __init__(self, mesh: RunningMesh, client_pid: int) -> None:
        self._mesh: Final = mesh
        self._client_pid: Final = client_pid
        self.used: Final[list[Usage]] = []
        self.rss_bytes: Final[dict[str, int]] = {}
        self._looked = time.monotonic()

    def mark(self) -> None:
        self.used.append(self._look())

    def look_now_and_then(self) -> None:
        if time.monotonic() - self._looked >= _LOOK_SECONDS:
            self._look()

    def _look(self) -> Usage:
        # A process that died has another pid now.
        pids = {each.name: each.pid for each in self._mesh.state.processes}
        now = usage({**pids, CLIENT: self._client_pid}, self._mesh.state.data_dir)
        for name, size in now.rss_bytes.items():
            self.rss_bytes[name] = max(self.rss_bytes.get(name, 0), size)
        self._looked = time.monotonic()
        return now


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends it, by force where it takes too long."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
