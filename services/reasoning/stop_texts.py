"""Ends a text at one of its stop texts, for servers that do not do it themselves."""

from collections.abc import Sequence
from typing import Final


class StopTexts:
    """One answer, which comes in pieces."""

    def __init__(self, stop: Sequence[str]) -> None:
        self._stop: Final = tuple(stop)
        self._waiting = ""
        self._given: Final[list[str]] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All text that was given out."""
        return "".join(self._given)

    def feed(self, piece: str) -> str:
        """Takes the next piece; the text that no stop text can take back any more."""
        if self.stopped:
            return ""
        waiting = self._waiting + piece
        found = [at for each in self._stop if (at := waiting.find(each)) >= 0]
        if found:
            self.stopped, self._waiting = True, ""
            return self._give(waiting[: min(found)])
        certain = len(waiting) - self._held_back(waiting)
        self._waiting = waiting[certain:]
        return self._give(waiting[:certain])

    def finish(self) -> str:
        """The rest, when nothing more comes."""
        rest, self._waiting = self._waiting, ""
        return self._give(rest)

    def _held_back(self, text: str) -> int:
        """The length of the end of `text` with which a stop text may begin."""
        return max(
            (
                length
                for each in self._stop
                for length in range(1, min(len(each), len(text) + 1))
                if text.endswith(each[:length])
            ),
            default=0,
        )

    def _give(self, text: str) -> str:
        self._given.append(text)
        return text
