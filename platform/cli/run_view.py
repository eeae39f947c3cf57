"""A running task as the user sees it: a line for each event, the model's text as it appears."""

import time
from typing import TYPE_CHECKING, Final, Protocol, Self

from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from cli.event_line import EventLine, event_line
from cli.terminal import Terminal
from cli.wording import clean, shorten

if TYPE_CHECKING:
    from rich.text import Text

# Width of an event's line where there is no terminal to fit.
_PLAIN_WIDTH: Final = 200
# Draws a second while a task runs: enough for a spinner to look alive.
_REFRESHES: Final = 8
_DRAFT_LINES: Final = 12
# Notes stand below the text of the event's line.
_NOTE_INDENT: Final = " " * 24


class RunView(Protocol):
    """Shows a task while it runs. A context manager."""

    def __enter__(self) -> Self: ...
    def __exit__(self, *exc_info: object) -> None: ...
    def event(self, event: TaskEvent) -> None:
        """An event was recorded."""
        ...

    def delta(self, delta: TextDelta) -> None:
        """The model went on speaking."""
        ...

    def note(self, text: str) -> None:
        """Something to say besides."""
        ...


def run_view(terminal: Terminal) -> RunView:
    """The view that fits the terminal; with JSON output it shows nothing."""
    return _LiveView(terminal) if terminal.fancy else _PlainView(terminal)


class _PlainView:
    """Lines to stderr, so that stdout has the result alone."""

    def __init__(self, terminal: Terminal) -> None:
        self._terminal = terminal

    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        pass

    def event(self, event: TaskEvent) -> None:
        self._terminal.progress(line_text(event_line(event), _PLAIN_WIDTH))

    def delta(self, delta: TextDelta) -> None:
        pass  # the whole text follows

    def note(self, text: str) -> None:
        self._terminal.progress(_NOTE_INDENT + text)


class _LiveView:
    """Lines, and below them the text that is being written; it goes when the answer comes."""

    def __init__(self, terminal: Terminal) -> None:
        from rich.live import Live

        self._console = terminal.console
        self._draft = ""
        self._speaking = (0, 0)
        self._began = time.monotonic()
        self._live = Live(
            console=self._console,
            get_renderable=self._render,
            transient=True,
            refresh_per_second=_REFRESHES,
        )

    def __enter__(self) -> Self:
        self._live.start()
        return self

    def __exit__(self, *exc_info: object) -> None:
        self._live.stop()

    def event(self, event: TaskEvent) -> None:
        self._draft = ""
        self._console.print(_styled(event_line(event), self._console.width), soft_wrap=True)

    def delta(self, delta: TextDelta) -> None:
        if (delta.attempt, delta.step) != self._speaking:
            self._speaking, self._draft = (delta.attempt, delta.step), ""
        self._draft += clean(delta.text)

    def note(self, text: str) -> None:
        self._console.print(
            clean(_NOTE_INDENT + text), style="dim", markup=False, highlight=False, soft_wrap=True
        )

    def _render(self) -> "Text":
        from rich.text import Text

        if self._draft:
            return Text("\n".join(self._draft.splitlines()[-_DRAFT_LINES:]))
        seconds = time.monotonic() - self._began
        return Text(f"{seconds:7.1f} s  working", style="dim") if seconds > 1 else Text("")


def line_text(line: EventLine, width: int) -> str:
    """The line in at most `width` characters."""
    start = f"{line.after_seconds:7.3f} s  {line.label:<11}  "
    return (start + shorten(line.text, max(20, width - len(start)))).rstrip()


def _styled(line: EventLine, width: int) -> "Text":
    from rich.text import Text

    text = Text.assemble(
        (f"{line.after_seconds:7.3f} s  ", "dim"), (f"{line.label:<11}  ", line.style)
    )
    text.append(shorten(line.text, max(20, width - len(text.plain))))
    return text
