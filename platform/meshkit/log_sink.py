"""Where log lines go: to a stream, gathered for a moment when they are many."""

import asyncio
import atexit
from typing import Final, TextIO

# A write of its own for each line would give up the interpreter's lock each time.
_GATHER_SECONDS: Final = 0.05


class LineSink:
    """Writes lines to a stream.

    Lines that say that all is well wait up to 50 milliseconds for company;
    warnings and errors take them along at once. So only a process that is
    killed loses lines, and only harmless ones.
    """

    def __init__(self, stream: TextIO) -> None:
        self._stream: Final = stream
        self._gathers: Final = _has_file(stream)
        self._lines: list[str] = []
        self._timer: asyncio.TimerHandle | None = None
        if self._gathers:
            atexit.register(self.flush)

    def take(self, line: str, *, urgent: bool) -> None:
        """Takes a line; an urgent one is written now."""
        self._lines.append(line)
        if urgent:
            self.flush()
        elif self._timer is None:
            self._write_soon()

    def _write_soon(self) -> None:
        try:
            loop = asyncio.get_running_loop() if self._gathers else None
        except RuntimeError:
            loop = None
        if loop is None:
            self.flush()
        else:
            self._timer = loop.call_later(_GATHER_SECONDS, self.flush)

    def flush(self) -> None:
        """Writes what was gathered."""
        if self._timer is not None:
            self._timer.cancel()
            self._timer = None
        lines, self._lines = self._lines, []
        if lines:
            self._stream.write("\n".join(lines) + "\n")
            self._stream.flush()


def _has_file(stream: TextIO) -> bool:
    try:
        return stream.fileno() >= 0
    except OSError:  # kept in memory
        return False
