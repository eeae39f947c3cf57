"""A real server as a child process: started, killed and started again by tests."""

import os
import socket
import subprocess
import time
from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Final

import pytest

_READY_TIMEOUT_SECONDS: Final = 60.0


def free_port() -> int:
    """A port of 127.0.0.1 that nobody uses now."""
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


def binary(variable: str) -> Path:
    """The server binary that the environment names; the test is skipped where it names none."""
    value = os.environ.get(variable)
    if not value:
        pytest.skip(f"{variable} does not name a server binary")
    return Path(value).absolute()


class ChildServer:
    """One server on one port, which it keeps over restarts."""

    def __init__(
        self,
        command: Callable[[int], Sequence[str | Path]],
        *,
        log_path: Path,
        answers: Callable[[int], bool],
        ready_timeout_seconds: float = _READY_TIMEOUT_SECONDS,
    ) -> None:
        """`command` makes the command line for a port; `answers` tells whether it is up."""
        self._command: Final = command
        self._log_path: Final = log_path
        self._answers: Final = answers
        self._ready_timeout_seconds: Final = ready_timeout_seconds
        self._process: subprocess.Popen[bytes] | None = None
        self.port: Final = free_port()

    @property
    def pid(self) -> int:
        """The process id while it runs."""
        assert self._process is not None, "the server does not run"
        return self._process.pid

    @property
    def is_running(self) -> bool:
        """Whether it was started, and neither stopped nor killed since then."""
        return self._process is not None

    def start(self) -> None:
        """Starts the server, and returns when it answers."""
        with self._log_path.open("ab") as log:
            self._process = subprocess.Popen(
                self._command(self.port), stdin=subprocess.DEVNULL, stdout=log, stderr=log
            )
        give_up = time.monotonic() + self._ready_timeout_seconds
        while not self._is_up():
            if self._process.poll() is not None or time.monotonic() > give_up:
                self.kill()
                text = self._log_path.read_text("utf-8", "replace")[-2000:]
                raise RuntimeError(f"The server did not come up:\n{text}")
            time.sleep(0.01)

    def stop(self) -> None:
        """Ends the server the friendly way."""
        if self._process is not None:
            self._process.terminate()
            self._process.wait(60)
            self._process = None

    def kill(self) -> None:
        """Ends the server as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait(60)
            self._process = None

    def restart(self) -> None:
        """Kills the server, and starts it again on the same port with the same files."""
        self.kill()
        self.start()

    def _is_up(self) -> bool:
        try:
            return self._answers(self.port)
        except OSError:
            return False


def exchange(port: int, question: bytes) -> bytes:
    """What a server says first, after `question` where that is not empty."""
    with socket.create_connection(("127.0.0.1", port), timeout=1) as connection:
        if question:
            connection.sendall(question)
        return connection.recv(4096)
