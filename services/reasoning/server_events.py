"""Server-sent events, taken out of what comes in whatever parts it comes."""

import re
from typing import Final

_LINE_END: Final = re.compile(rb"\r\n|\n|\r")
_DATA: Final = b"data"


class ServerEvents:
    """Reads one stream. Of an event its data alone: nobody here goes by names and numbers."""

    def __init__(self) -> None:
        # Of the line that is not complete, so that a long one is put together once.
        self._line: list[bytes] = []
        # A line that ends so may go on with the other half of its end.
        self._returned = False
        self._data: list[bytes] = []

    def feed(self, part: bytes) -> list[bytes]:
        """The data of the events that are complete with `part`; those without data are none."""
        if self._returned:
            part = b"\r" + part
        self._returned = part.endswith(b"\r")
        first, *others = _LINE_END.split(part[:-1] if self._returned else part)
        self._line.append(first)
        events: list[bytes] = []
        for line in others:
            self._take(b"".join(self._line), events)
            self._line = [line]
        return events

    def end(self) -> list[bytes]:
        """What the end of the stream completes: no event without its blank line."""
        return self.feed(b"\n") if self._returned else []

    def _take(self, line: bytes, events: list[bytes]) -> None:
        if not line:
            if self._data:
                events.append(b"\n".join(self._data))
                self._data = []
            return
        name, _, value = line.partition(b":")
        if name == _DATA:
            self._data.append(value.removeprefix(b" "))
