"""A process of a system that is measured: it runs as long as it is needed, and no longer."""

import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Generator, Mapping, Sequence
from pathlib import Path
from typing import Final

import psutil

from bench.peers.peer import PeerUnavailable
from tier import child_exec

_PROBE_SECONDS: Final = 0.05
_STOP_SECONDS: Final = 20.0


def with_parent(command: Sequence[str | Path]) -> list[str]:
    """The command line of a program that dies with this process, however that ends."""
    wrapper = [sys.executable, "-I", "-S", child_exec.__file__, str(os.getpid())]
    return [*wrapper, *map(str, command)]


@contextlib.contextmanager
def child(
    title: str,
    command: Sequence[str | Path],
    *,
    log: Path,
    environment: Mapping[str, str],
    ready: Callable[[], bool],
    ready_seconds: float = 60.0,
    ending: signal.Signals = signal.SIGTERM,
) -> Generator[int, None, None]:
    """Runs a server, whose pid this gives once it is ready, and ends it with `ending`.

    Raises:
        PeerUnavailable: It ended, or was not ready in time.
    """
    with log.open("ab") as output:
        process = subprocess.Popen(
            command,
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            env=environment,
            # A Ctrl-C is for this process, which then ends its children in order.
            start_new_session=True,
        )
    try:
        give_up = time.monotonic() + ready_seconds
        while not ready():
            if process.poll() is not None:
                raise PeerUnavailable(f"{title} ended at its start: {last_words(log)}")
            if time.monotonic() > give_up:
                raise PeerUnavailable(
                    f"{title} was not ready within {ready_seconds:g} s: {last_words(log)}"
                )
            time.sleep(_PROBE_SECONDS)
        yield process.pid
    finally:
        end(process, ending)


def end(process: "subprocess.Popen[bytes] | subprocess.Popen[str]", how: signal.Signals) -> None:
    """Ends a process, by force where it takes too long, and the children that it leaves behind."""
    if process.poll() is not None:
        return
    children = psutil.Process(process.pid).children(recursive=True)
    process.send_signal(how)
    try:
        process.wait(_STOP_SECONDS)
    except subprocess.TimeoutExpired:
        process.kill()
        process.wait()
    for each in children:
        # Never another process that has its number by now.
        with contextlib.suppress(psutil.NoSuchProcess):
            each.kill()


def last_words(log: Path) -> str:
    """The last line of a log."""
    lines = [line for line in log.read_text("utf-8", "replace").splitlines() if line.strip()]
    return lines[-1].strip() if lines else "it said nothing."
