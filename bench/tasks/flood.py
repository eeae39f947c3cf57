"""The streams that flood, in a process of their own: what they cost is not in another's latency."""

import dataclasses
import json
import subprocess
import sys
from collections import Counter
from collections.abc import Generator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager, suppress
from itertools import zip_longest
from typing import IO, Final

from bench.tasks.load import LOAD, OUTCOME, Load, Outcome, Second, Window

_NONE: Final = Second(began=0, completed=0, p50_ms=0.0, p99_ms=0.0)


class FloodFailed(Exception):
    """The process came to a bad end."""


def divide(load: Load) -> tuple[Load, Load | None]:
    """The load without the streams that flood, and these alone; None where there are none."""
    floods = tuple(each for each in load.streams if each.floods)
    if not floods or len(floods) == len(load.streams):
        return load, None
    quiet = tuple(each for each in load.streams if not each.floods)
    return dataclasses.replace(load, streams=quiet), dataclasses.replace(load, streams=floods)


@contextmanager
def flooding(load: Load, program: str, begun: float) -> Generator["Future[Outcome]"]:
    """Runs `program`, a client, on the load; gives what will come of it.

    `begun`: when the load began, by the monotonic clock, which all processes share.
    """
    with ThreadPoolExecutor(1) as reader:
        process = subprocess.Popen(
            [sys.executable, "-P", "-m", program, f"--begun={begun}"],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
        )
        try:
            yield reader.submit(_outcome, process, LOAD.dump_json(load))
        finally:
            process.kill()
            process.wait()


def joined(measured: Outcome, flood: Outcome) -> Outcome:
    """Both together. The latencies of seconds are those of what is measured."""
    return Outcome(
        submitted=measured.submitted + flood.submitted,
        succeeded=measured.succeeded + flood.succeeded,
        errors=dict(Counter(measured.errors) + Counter(flood.errors)),
        windows=tuple(
            Window(one.seconds, one.completed + other.completed, one.latencies | other.latencies)
            for one, other in zip(measured.windows, flood.windows, strict=True)
        ),
        seconds=tuple(
            Second(one.began + other.began, one.completed + other.completed, one.p50_ms, one.p99_ms)
            for one, other in zip_longest(measured.seconds, flood.seconds, fillvalue=_NONE)
        ),
        refused=measured.refused + flood.refused,
    )


def _outcome(process: "subprocess.Popen[bytes]", load: bytes) -> Outcome:
    given, said = _pipes(process)
    # Who ended before reading has said nothing either.
    with suppress(BrokenPipeError), given:
        given.write(load)
    # What it tells on the way is read, so that it need not wait.
    for line in said:
        told = json.loads(line)
        if "outcome" in told:
            return OUTCOME.validate_python(told["outcome"])
        if "failure" in told:
            raise FloodFailed(told["failure"])
    raise FloodFailed(f"The process that floods ended early (exit code {process.wait()}).")


def _pipes(process: "subprocess.Popen[bytes]") -> tuple[IO[bytes], IO[bytes]]:
    if process.stdin is None or process.stdout is None:
        raise RuntimeError("it was started with pipes")
    return process.stdin, process.stdout
