"""Gathers findings, in bounded memory."""

from collections.abc import Iterable
from typing import Final

from audit.finding import Finding


class Collector:
    """Keeps the first findings of each kind, and counts the others."""

    def __init__(self, most: int) -> None:
        """`most`: how many findings are kept."""
        self._most: Final = most
        self._kept: list[Finding] = []
        self.left_off = 0

    def add(self, findings: Iterable[Finding]) -> None:
        """Keeps the findings while there is room."""
        for each in findings:
            if len(self._kept) < self._most:
                self._kept.append(each)
            else:
                self.left_off += 1

    def findings(self) -> tuple[Finding, ...]:
        """By where they stand in the stream."""
        return tuple(
            sorted(self._kept, key=lambda each: (each.stream_sequences[:1] or (0,), each.invariant))
        )
