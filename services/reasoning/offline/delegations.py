"""Recognises that parts of a request are for others, and splits it into these parts."""

import re
from dataclasses import dataclass
from typing import Final

# "Delegate: …", "Do these in parallel: …", from the beginning of the sentence.
_HEAD: Final = re.compile(
    r"(?:^|(?<=[.!?;\n]))[^.!?;:\n]*\b(?:delegate|in\s+parallel|side\s+by\s+side)\b[^.!?;:\n]{0,60}:",
    re.IGNORECASE,
)
_END: Final = re.compile(r"\n[ \t]*\n(?![ \t]*(?:\d{1,3}[.)]|[-*•])\s)")
_ITEM: Final = re.compile(r"^[ \t]*(?:\d{1,3}[.)]|[-*•])\s+", re.MULTILINE)
_NUMBERED: Final = re.compile(r"(?:^|\s)\(?\d{1,3}[.)]\s+")
_LIST: Final = re.compile(r"[;\n]")
_MOST_PARTS: Final = 100


@dataclass(frozen=True, slots=True)
class Delegation:
    """Work for others, to be done side by side."""

    parts: tuple[str, ...]


def split_delegation(request: str) -> tuple[str, Delegation | None, str]:
    """What `request` says before the parts for others, the parts, and what it says after them.

    The parts follow a colon: items of a list, or divided by semicolons. They
    end at an empty line.
    """
    head = _HEAD.search(request)
    if head is None:
        return request, None, ""
    body = request[head.end() :].lstrip("\n")
    end = _END.search(body)
    listed, after = (body[: end.start()], body[end.end() :]) if end else (body, "")
    parts = _parts(listed.strip())
    if not parts:
        return request, None, ""
    return request[: head.start()], Delegation(tuple(parts[:_MOST_PARTS])), after


def _parts(text: str) -> list[str]:
    if len(_ITEM.findall(text)) > 1 or _ITEM.match(text):
        divided = _ITEM.split(text)
        # "1. A 2. B" stands in one line.
        divided = [part for item in divided for part in _inline(item, len(divided) > 2)]
    else:
        divided = _LIST.split(text)
    cleaned = (" ".join(part.split()).rstrip(" ;,") for part in divided)
    return [part for part in cleaned if part]


def _inline(item: str, is_list: bool) -> list[str]:
    return [item] if is_list else _NUMBERED.split(item)
