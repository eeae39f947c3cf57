"""The recipes of a page: each command, and what the page says that it prints."""

import re
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Final

_FENCE: Final = re.compile(r"^```(\w*)$")
# Calls that change nothing may be made again until what they show has come about.
_READS: Final = re.compile(r"/(Check|Get|List|Search|Query|Watch|Explain)\w*$")


@dataclass(frozen=True, slots=True)
class Recipe:
    """A block of commands, and the block after it."""

    # Of the command's fence, from 1.
    line: int
    command: str
    # None where the page does not say.
    printed: str | None

    @property
    def reads_only(self) -> bool:
        """Whether the command may be repeated without changing anything."""
        return _READS.search(self.command.strip()) is not None


@dataclass(frozen=True, slots=True)
class _Block:
    line: int
    language: str
    text: str


def recipes(page: str) -> list[Recipe]:
    """Every block of shell commands, in the order of the page."""
    found: list[Recipe] = []
    command: _Block | None = None
    for block in _blocks(page):
        if block.language == "sh":
            if command is not None:
                found.append(Recipe(command.line, command.text, None))
            command = block
        elif command is not None:
            found.append(Recipe(command.line, command.text, block.text))
            command = None
    if command is not None:
        found.append(Recipe(command.line, command.text, None))
    return found


def _blocks(page: str) -> Iterator[_Block]:
    begun: _Block | None = None
    lines: list[str] = []
    for number, line in enumerate(page.splitlines(), 1):
        fence = _FENCE.match(line)
        if begun is not None and line == "```":
            yield _Block(begun.line, begun.language, "\n".join(lines))
            begun = None
        elif begun is None and fence:
            begun, lines = _Block(number, fence[1], ""), []
        else:
            lines.append(line)
