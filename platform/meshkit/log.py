"""One structured line per thing that happened: JSON, or coloured text in a terminal."""

import json
import logging
import re
import sys
import traceback
from collections.abc import MutableMapping
from datetime import UTC, datetime
from typing import Any, Final, Protocol, TextIO, cast

import structlog

from meshkit import trace

_SECRET: Final = re.compile(
    r"(^|_)(password|passwd|secret|api_?key|authorization|credentials?|bearer|token)($|_)", re.I
)
# Names of every line, spared the search.
_HARMLESS: Final = frozenset(
    ("event", "level", "timestamp", "service", "trace_id", "method", "code", "reason", "tenant")
)
_encode: Final = json.JSONEncoder(ensure_ascii=False, default=str, separators=(",", ":")).encode
_LEVELS: Final = {
    "debug": logging.DEBUG,
    "info": logging.INFO,
    "warning": logging.WARNING,
    "error": logging.ERROR,
}


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
        """Something went wrong, and somebody noticed."""
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
    # Plain traces: the richer ones print local variables, and those may be secrets.
    text = structlog.dev.ConsoleRenderer(exception_formatter=structlog.dev.plain_traceback)
    logger = structlog.wrap_logger(
        structlog.WriteLogger(out),
        processors=[_complete, text if as_text else _render_json],
        wrapper_class=structlog.make_filtering_bound_logger(_LEVELS[level]),
        cache_logger_on_first_use=True,
    )
    return cast(Log, logger.bind(service=name))


_Line = MutableMapping[str, Any]


def _complete(_logger: object, method: str, line: _Line) -> _Line:
    """One step instead of a chain of four: this runs once per RPC."""
    line["level"] = "error" if method == "exception" else method
    line["timestamp"] = datetime.now(UTC).isoformat(timespec="milliseconds")
    span = trace.current()
    if span is not None:
        line["trace_id"] = span.trace_id
    for key in line:
        if key not in _HARMLESS and _SECRET.search(key):
            line[key] = "***"
    return line


def _render_json(_logger: object, _method: str, line: _Line) -> str:
    ordered: dict[str, Any] = {
        "time": line.pop("timestamp"),
        "level": line.pop("level"),
        "event": line.pop("event"),
    }
    ordered.update(line)
    failure = ordered.pop("exc_info", None)
    if failure:
        error = failure if isinstance(failure, BaseException) else sys.exc_info()[1]
        if error is not None:
            ordered["exception"] = "".join(traceback.format_exception(error))
    return _encode(ordered)
