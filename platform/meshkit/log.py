"""One structured line per thing that happened: JSON, or coloured text in a terminal.

Made here rather than taken from a library because one line is written for each
RPC: a general chain of processors costs several times as much.
"""

import json
import re
import sys
import traceback
from collections.abc import Callable, Mapping
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final, Protocol, TextIO

from meshkit import trace
from meshkit.log_sink import LineSink

_SECRET: Final = re.compile(
    r"(^|_)(password|passwd|secret|api_?key|authorization|credentials?|bearer|token)($|_)", re.I
)
_LEVELS: Final = {"debug": 10, "info": 20, "warning": 30, "error": 40}
_COLOURS: Final = {
    "debug": "\x1b[2m",
    "info": "\x1b[32m",
    "warning": "\x1b[33m",
    "error": "\x1b[31m",
}
_PLAIN: Final = "\x1b[0m"

_Render = Callable[[dict[str, object]], str]
_encode: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":")).encode


class Log(Protocol):
    """What the code may do with a logger: say what happened, with names for the details."""

    def bind(self, **details: object) -> "Log":
        """A logger that adds these details to each of its lines."""
        ...

    def debug(self, event: str, **details: object) -> None:
        """Only of use when looking for a fault."""
        ...

    def info(self, event: str, **details: object) -> None:
        """Something happened as it should."""
        ...

    def warning(self, event: str, **details: object) -> None:
        """Something went wrong, and the mesh coped."""
        ...

    def error(self, event: str, **details: object) -> None:
        """Something went wrong, and somebody noticed. `exc_info`: the exception, for its trace."""
        ...

    def exception(self, event: str, **details: object) -> None:
        """An error with the trace of the exception that is being handled."""
        ...


def get(
    name: str,
    *,
    level: str = "info",
    stream: TextIO | None = None,
    pretty: bool | None = None,
) -> Log:
    """A logger for the service `name`, writing to standard error unless told otherwise.

    `pretty` is on where the stream is a terminal. Details whose names speak of
    secrets are blanked.
    """
    out = stream or sys.stderr
    as_text = out.isatty() if pretty is None else pretty
    return _LineLog(
        LineSink(out), _as_text if as_text else _encode, _LEVELS[level], {"service": name}
    )


class _LineLog:
    __slots__ = ("_bound", "_least", "_render", "_sink")

    def __init__(
        self, sink: LineSink, render: _Render, least: int, bound: Mapping[str, object]
    ) -> None:
        self._sink = sink
        self._render = render
        self._least = least
        self._bound = bound

    def bind(self, **details: object) -> "_LineLog":
        return _LineLog(self._sink, self._render, self._least, {**self._bound, **details})

    def debug(self, event: str, **details: object) -> None:
        self._write("debug", event, details)

    def info(self, event: str, **details: object) -> None:
        self._write("info", event, details)

    def warning(self, event: str, **details: object) -> None:
        self._write("warning", event, details)

    def error(self, event: str, **details: object) -> None:
        self._write("error", event, details)

    def exception(self, event: str, **details: object) -> None:
        self._write("error", event, {**details, "exc_info": sys.exc_info()[1]})

    def _write(self, level: str, event: str, details: Mapping[str, object]) -> None:
        number = _LEVELS[level]
        if number < self._least:
            return
        line: dict[str, object] = {
            "time": datetime.now(UTC).isoformat(timespec="milliseconds"),
            "level": level,
            "event": event,
            **self._bound,
            **details,
        }
        span = trace.current()
        if span is not None:
            line["trace_id"] = span.trace_id
        for key in details:
            if _is_secret(key):
                line[key] = "***"
        failure = line.pop("exc_info", None)
        if isinstance(failure, BaseException):
            line["exception"] = "".join(traceback.format_exception(failure))
        self._sink.take(self._render(line), urgent=number >= _LEVELS["warning"])


@lru_cache(maxsize=1024)
def _is_secret(key: str) -> bool:
    return _SECRET.search(key) is not None


def _as_text(line: dict[str, object]) -> str:
    clock = str(line.pop("time"))[11:23]
    level = str(line.pop("level"))
    event = line.pop("event")
    failure = line.pop("exception", "")
    details = " ".join(f"{key}={value}" for key, value in line.items())
    text = f"{clock} {_COLOURS[level]}{level:<8}{_PLAIN}{event}  {details}"
    return f"{text}\n{failure}".rstrip()
