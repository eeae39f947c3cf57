"""Throughput and latency over time: as a line of blocks for a terminal, and as a drawing."""

from collections.abc import Sequence
from html import escape
from typing import Final

from bench.tasks.load import Second

_BLOCKS: Final = "▁▂▃▄▅▆▇█"
_WIDTH: Final = 800
_HEIGHT: Final = 180
_LEFT: Final = 70
_TOP: Final = 50
_GAP: Final = 60


def blocks(values: Sequence[float], width: int) -> str:
    """The values as blocks from 0 to the largest; several share one where there are too many.

    A shared block shows the largest of its values.
    """
    if not values:
        return ""
    columns = min(max(width, 1), len(values))
    shown = [
        max(values[len(values) * column // columns : len(values) * (column + 1) // columns])
        for column in range(columns)
    ]
    most = max(shown)
    if most <= 0:
        return _BLOCKS[0] * columns
    last = len(_BLOCKS) - 1
    return "".join(_BLOCKS[min(int(value / most * len(_BLOCKS)), last)] for value in shown)


def svg(title: str, seconds: Sequence[Second]) -> str:
    """Two panels over time: tasks a second that ended, and the latencies of those that began."""
    height = _TOP + 2 * (_HEIGHT + _GAP)
    parts = [
        f'<svg xmlns="http://www.w3.org/2000/svg" width="{_LEFT + _WIDTH + 30}" height="{height}"'
        ' font-family="sans-serif" font-size="12">',
        '<rect width="100%" height="100%" fill="white"/>',
        f'<text x="{_LEFT}" y="22" font-size="15">{escape(title)}</text>',
        *_panel(_TOP, "tasks a second", [("#1a6fb5", "", [each.completed for each in seconds])]),
        *_panel(
            _TOP + _HEIGHT + _GAP,
            "latency in ms",
            [
                ("#1a6fb5", "p50", [each.p50_ms for each in seconds]),
                ("#c8442b", "p99", [each.p99_ms for each in seconds]),
            ],
        ),
        "</svg>",
    ]
    return "\n".join(parts) + "\n"


def _panel(top: float, title: str, lines: Sequence[tuple[str, str, Sequence[float]]]) -> list[str]:
    most = max((value for _, _, values in lines for value in values), default=0.0) or 1.0
    count = max((len(values) for _, _, values in lines), default=0)
    bottom = top + _HEIGHT
    parts = [
        f'<text x="{_LEFT}" y="{top - 8}">{title}</text>',
        f'<path d="M{_LEFT} {top}V{bottom}H{_LEFT + _WIDTH}" fill="none" stroke="#888"/>',
        f'<text x="{_LEFT - 6}" y="{top + 8}" text-anchor="end">{most:,.4g}</text>',
        f'<text x="{_LEFT - 6}" y="{bottom}" text-anchor="end">0</text>',
        f'<text x="{_LEFT + _WIDTH}" y="{bottom + 16}" text-anchor="end">{count} s</text>',
    ]
    for number, (colour, name, values) in enumerate(lines):
        points = " ".join(
            f"{_LEFT + _WIDTH * (second + 0.5) / count:.1f},{bottom - _HEIGHT * value / most:.1f}"
            for second, value in enumerate(values)
        )
        parts.append(f'<polyline points="{points}" fill="none" stroke="{colour}"/>')
        x = _LEFT + _WIDTH - 80 + 40 * number
        parts.append(f'<text x="{x}" y="{top - 8}" fill="{colour}">{name}</text>')
    return parts
