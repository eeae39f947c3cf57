"""Where output goes: results to stdout, progress and errors to stderr.

In a terminal results have colours and tables that fit its width. In a pipe
they are plain and never cut, and the library for the former is not loaded.
"""

import json
import sys
from collections.abc import Mapping, Sequence
from typing import TYPE_CHECKING, Any, Final, NamedTuple, TextIO

from cli.problem import Report
from cli.wording import clean

if TYPE_CHECKING:
    from rich.console import Console

# Between columns.
_GAP: Final = "  "
# Where less is left for a table's last column it shows nothing.
_LAST_COLUMN_LEAST: Final = 12


class Styled(NamedTuple):
    """A cell of a table with one of rich's styles, which shows in a terminal only."""

    text: str
    style: str


class Terminal:
    """The two streams of a command."""

    def __init__(
        self,
        *,
        as_json: bool,
        out: TextIO | None = None,
        err: TextIO | None = None,
        typed: TextIO | None = None,
    ) -> None:
        """With `as_json` stdout carries JSON alone. By default the process's own streams."""
        self.as_json: Final = as_json
        self._out: Final = out or sys.stdout
        self._err: Final = err or sys.stderr
        self._typed: Final = typed or sys.stdin
        self._consoles: dict[str, Console] = {}

    @property
    def fancy(self) -> bool:
        """Whether stdout is a terminal that a person reads."""
        return not self.as_json and self._out.isatty()

    @property
    def fancy_progress(self) -> bool:
        """Whether stderr is a terminal on which lines can be rewritten."""
        return not self.as_json and self._err.isatty()

    @property
    def interactive(self) -> bool:
        """Whether a person reads what is printed and can answer."""
        return self.fancy and self.fancy_progress and self._typed.isatty()

    @property
    def width(self) -> int:
        """Columns of the terminal."""
        return self.console.width

    def document(self, value: Mapping[str, Any]) -> None:
        """The one JSON document of a command."""
        print(json.dumps(value, ensure_ascii=False, indent=2), file=self._out, flush=True)

    def line(self, value: Mapping[str, Any]) -> None:
        """One JSON object of a stream, in one line."""
        text = json.dumps(value, ensure_ascii=False, separators=(",", ":"))
        print(text, file=self._out, flush=True)

    def say(self, text: str = "", *, style: str = "") -> None:
        """A line of the result. `style` is one of rich's, and shows in a terminal only."""
        if self.fancy and style:
            self.console.print(
                clean(text), style=style, markup=False, highlight=False, soft_wrap=True
            )
        else:
            print(clean(text), file=self._out, flush=True)

    def progress(self, text: str, *, style: str = "dim") -> None:
        """A line about what is being done; nothing with JSON output."""
        if self.as_json:
            return
        if self.fancy_progress:
            self.err_console.print(
                clean(text), style=style, markup=False, highlight=False, soft_wrap=True
            )
        else:
            print(clean(text), file=self._err, flush=True)

    def warn(self, text: str) -> None:
        """A line about something that the user should look at; nothing with JSON output."""
        self.progress(text, style="yellow")

    def fail(self, report: Report) -> None:
        """The error that ends the command, in one line, to stderr."""
        self._out.flush()
        if self.as_json:
            print(json.dumps(report.document(), ensure_ascii=False), file=self._err, flush=True)
        elif self._err.isatty():
            from rich.text import Text

            text = Text.assemble(("error: ", "bold red"), clean(report.line()))
            self.err_console.print(text, soft_wrap=True)
        else:
            print(f"error: {clean(report.line())}", file=self._err, flush=True)

    def confirm(self, question: str) -> bool:
        """Whether the person at the terminal says yes."""
        self._prompt(f"{question} [y/N] ")
        return self._typed.readline().strip().lower() in ("y", "yes")

    async def ask(self, question: str) -> str:
        """What the person at the terminal types, without blanks around it; empty at Ctrl-D."""
        from cli.line_input import read_line

        self._prompt(question)
        return (await read_line(self._typed.fileno()) or "").strip()

    def _prompt(self, question: str) -> None:
        self._out.flush()
        print(clean(question), end="", file=self._err, flush=True)

    def table(
        self,
        columns: Sequence[str],
        rows: Sequence[Sequence[str | Styled]],
        *,
        right: Sequence[str] = (),
        one_line: bool = False,
    ) -> None:
        """Rows under headings; the columns named in `right` are set to the right.

        In a terminal the last column gives way: it wraps, or is cut with `one_line`. Where
        the others alone are wider than the terminal, lines run on as in a pipe.
        """
        cells = [[_cell(cell) for cell in row] for row in rows]
        lines = [list(columns), *([cell.text for cell in row] for row in cells)]
        widths = [max(len(line[index]) for line in lines) for index in range(len(columns))]
        fixed = sum(widths[:-1]) + len(_GAP) * len(widths[:-1])
        if self.fancy and fixed + min(widths[-1], _LAST_COLUMN_LEAST) <= self.width:
            from rich.table import Table

            table = Table(box=None, header_style="bold", pad_edge=False, padding=(0, 2, 0, 0))
            for column in columns:
                last = column == columns[-1]
                table.add_column(
                    column,
                    justify="right" if column in right else "left",
                    # A column that does not wrap keeps its width: this one must not be one,
                    # its cells see to it that they stay in one line.
                    no_wrap=not last,
                    overflow="ellipsis" if one_line and last else "fold",
                )
            for row in cells:
                table.add_row(*(_text(cell, one_line=one_line) for cell in row))
            self.console.print(table)
            return
        for line in lines:
            padded = [
                cell.rjust(width) if column in right else cell.ljust(width)
                for column, cell, width in zip(columns, line, widths, strict=True)
            ]
            print(_GAP.join(padded).rstrip(), file=self._out)
        self._out.flush()

    def fields(self, pairs: Sequence[tuple[str, str]]) -> None:
        """Names and values, one pair a line; pairs without a value are left out."""
        shown = [(name, clean(value)) for name, value in pairs if value]
        width = max((len(name) for name, _ in shown), default=0)
        for name, value in shown:
            lines = value.split("\n")
            if self.fancy:
                from rich.text import Text

                self.console.print(
                    Text.assemble((name.ljust(width), "bold"), "  ", lines[0]), soft_wrap=True
                )
            else:
                print(f"{name.ljust(width)}  {lines[0]}", file=self._out)
            for line in lines[1:]:
                print(f"{'':{width}}  {line}", file=self._out)
        self._out.flush()

    def markdown(self, text: str) -> None:
        """Markdown: rendered in a terminal, as it is in a pipe."""
        if self.fancy:
            from rich.markdown import Markdown

            self.console.print(Markdown(clean(text)))
        else:
            print(clean(text), file=self._out, flush=True)

    @property
    def console(self) -> "Console":
        """Rich's console on stdout."""
        return self._console("out", self._out)

    @property
    def err_console(self) -> "Console":
        """Rich's console on stderr."""
        return self._console("err", self._err)

    def _console(self, key: str, stream: TextIO) -> "Console":
        console = self._consoles.get(key)
        if console is None:
            from rich.console import Console

            console = self._consoles[key] = Console(file=stream, highlight=False, emoji=False)
        return console


def _cell(cell: str | Styled) -> Styled:
    text, style = cell if isinstance(cell, Styled) else (cell, "")
    return Styled(" ".join(clean(text).split()), style)


def _text(cell: Styled, *, one_line: bool) -> Any:
    from rich.text import Text

    return Text(cell.text, style=cell.style, no_wrap=one_line or None)
