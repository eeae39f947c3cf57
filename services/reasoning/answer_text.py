"""Takes tool calls and stop texts out of what a model writes, while it comes in pieces."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from services.reasoning.chat_text import CALL_BEGIN, CALL_END, mended_marks

# What may yet become a mark, be it one that was broken, and the space before calls.
_UNFINISHED_MARK: Final = re.compile(r"<[\\/a-z_]{0,40}\Z")
_BEFORE_CALL: Final = re.compile(rf"\s*(?:{_UNFINISHED_MARK.pattern}|\Z)")


@dataclass(frozen=True, slots=True)
class CallText:
    """A tool call as the model wrote it."""

    # JSON that was to be an object with `name` and `arguments`.
    text: str
    # False where the answer ended within it.
    finished: bool = True


class AnswerText:
    """One answer. Text is given out as soon as it is certain that it is text."""

    def __init__(self, *, stop: Sequence[str] = (), with_calls: bool = True) -> None:
        """`stop`: where the answer ends; `with_calls`: whether calls are looked for."""
        self._stop: Final = tuple(stop)
        self._with_calls: Final = with_calls
        self._waiting = ""
        self._in_call = False
        self._given: Final[list[str]] = []
        self.calls: Final[list[CallText]] = []
        self.stopped = False

    @property
    def text(self) -> str:
        """All text that was given out."""
        return "".join(self._given)

    def feed(self, piece: str) -> str:
        """Takes the next piece; the text that is certain by now."""
        if self.stopped:
            return ""
        self._waiting += piece
        certain = ""
        while True:
            if self._in_call:
                said, end, rest = self._waiting.partition(CALL_END)
                if not end:
                    return self._give(certain)
                self.calls.append(CallText(said.strip()))
                self._waiting, self._in_call = rest, False
                continue
            text, begin, rest = self._split_at_call()
            stop = min((at for each in self._stop if (at := text.find(each)) >= 0), default=-1)
            if stop >= 0:
                self.stopped, self._waiting = True, ""
                return self._give(certain + text[:stop])
            if not begin:
                ready = len(text) - self._held_back(text)
                self._waiting = text[ready:]
                return self._give(certain + text[:ready])
            # The space between text and calls belongs to neither.
            certain += text.rstrip()
            self._waiting, self._in_call = rest, True

    def finish(self) -> str:
        """The rest of the text, when nothing more comes."""
        rest, self._waiting = self._waiting, ""
        if self._in_call:
            self.calls.append(CallText(rest.strip(), finished=False))
            return ""
        return "" if self.calls and not rest.strip() else self._give(rest)

    def _split_at_call(self) -> tuple[str, str, str]:
        if not self._with_calls:
            return self._waiting, "", ""
        return self._waiting.partition(CALL_BEGIN)

    def _held_back(self, text: str) -> int:
        """The length of the end of `text` that what comes next may change."""
        unfinished = (_BEFORE_CALL if self._with_calls else _UNFINISHED_MARK).search(text)
        held = len(text) - unfinished.start() if unfinished else 0
        for stop in self._stop:
            for length in range(min(len(stop) - 1, len(text)), held, -1):
                if text.endswith(stop[:length]):
                    held = length
                    break
        return held

    def _give(self, text: str) -> str:
        text = mended_marks(text)
        if text:
            self._given.append(text)
        return text
