"""Runs the client process, and notes what everything uses meanwhile."""

import asyncio
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Callable
from dataclasses import dataclass
from typing import Final

from bench.governor.asking import ASKED, ASKING, Asked, Asking

_END_SECONDS: Final = 10.0
_LONGEST_LINE_BYTES: Final = 1024 * 1024


class ClientFailed(Exception):
    """The client process came to a bad end; the text says how."""


@dataclass(frozen=True, slots=True)
class Drive:
    """What was asked, and when."""

    asked: Asked
    # When the warm-up ended and when all was answered, in seconds since 1970.
    begun: float
    ended: float


async def drive(asking: Asking, mark: Callable[[int], None]) -> Drive:
    """Returns when all is answered. Raises ClientFailed.

    `mark` is called with the client's pid when the warm-up has ended, and at the end.
    """
    process = _start(asking)
    try:
        return await _driven(process, mark)
    finally:
        await asyncio.to_thread(_end, process)


def _start(asking: Asking) -> "subprocess.Popen[bytes]":
    with tempfile.TemporaryFile() as given:
        given.write(ASKING.dump_json(asking))
        given.seek(0)
        # Not asyncio's way to start a process: it forks, which gRPC complains about.
        return subprocess.Popen(
            [sys.executable, "-P", "-m", "bench.governor.client"],
            stdin=given,
            stdout=subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
        )


async def _driven(process: "subprocess.Popen[bytes]", mark: Callable[[int], None]) -> Drive:
    reader = asyncio.StreamReader(limit=_LONGEST_LINE_BYTES)
    loop = asyncio.get_running_loop()
    await loop.connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), process.stdout)
    marks: list[float] = []
    async for line in reader:
        match json.loads(line):
            case {"mark": time}:
                marks.append(time)
                mark(process.pid)
            case {"asked": asked}:
                begun, ended = marks
                return Drive(ASKED.validate_python(asked), begun, ended)
            case _:
                pass
    raise ClientFailed(f"The client process ended early (exit code {process.wait()}).")


def _end(process: "subprocess.Popen[bytes]") -> None:
    """Ends it, by force where it takes too long."""
    process.terminate()
    try:
        process.wait(_END_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
