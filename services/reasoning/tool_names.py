"""Names of tools as providers take them, which take fewer than the mesh has."""

import re
from collections.abc import Iterable
from typing import Final

_NOT_TAKEN: Final = re.compile(r"[^A-Za-z0-9_-]")
_MOST_CHARACTERS: Final = 64


class ToolNames:
    """Translates the names of one request, there and back."""

    def __init__(self, names: Iterable[str]) -> None:
        """`names`: of the tools that the model may call."""
        self._sent: Final[dict[str, str]] = {}
        self._meant: Final[dict[str, str]] = {}
        # Those that stay as they are keep their names, whatever the others become.
        for name in sorted(names, key=lambda each: (_taken(each) != each, each)):
            self._add(name)

    def sent(self, name: str) -> str:
        """The name for the provider, of any tool."""
        return self._sent.get(name) or self._add(name)

    def meant(self, name: str) -> str:
        """The tool that the model means; what it made up stays as it is."""
        return self._meant.get(name, name)

    def _add(self, name: str) -> str:
        sent, number = _taken(name), 2
        while sent in self._meant:
            ending = f"_{number}"
            sent, number = _taken(name)[: _MOST_CHARACTERS - len(ending)] + ending, number + 1
        self._sent[name] = sent
        self._meant[sent] = name
        return sent


def _taken(name: str) -> str:
    return _NOT_TAKEN.sub("_", name)[:_MOST_CHARACTERS] or "_"
