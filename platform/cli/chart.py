"""Small drawings in characters, for terminals and pipes alike."""

from collections.abc import Sequence
from typing import Final

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_FULL, _HELD, _FREE = "█", "▓", "░"


def bar(parts: Sequence[float], whole: float, width: int) -> str:
    """One or two parts of a whole side by side; whatever is over nothing shows.

    With a whole of nothing the bar is empty.
    """
    drawn = ""
    total = 0.0
    for part, glyph in zip(parts, (_FULL, _HELD), strict=False):
        total += part
        end = min(width, round(width * total / whole)) if whole > 0 else 0
        least = 1 if part > 0 and whole > 0 and len(drawn) < width else 0
        drawn += glyph * max(end - len(drawn), least)
    return drawn.ljust(width, _FREE)


def columns(values: Sequence[float], *, height: int) -> list[str]:
    """Values as columns, the largest as high as `height` lines; the top line first.

    Whatever is over nothing shows.
    """
    most = max(values, default=0.0)
    steps = [
        max(round(value / most * height * len(_BLOCKS)), 1) if most > 0 and value > 0 else 0
        for value in values
    ]
    return [
        "".join(_block(step - line * len(_BLOCKS)) for step in steps).rstrip()
        for line in reversed(range(height))
    ]


def _block(steps: int) -> str:
    return " " if steps <= 0 else _BLOCKS[min(steps, len(_BLOCKS)) - 1]
