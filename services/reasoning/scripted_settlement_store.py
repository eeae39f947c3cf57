"""Test-only: what outlives the process, in memory."""

from collections.abc import Sequence

from services.reasoning.governor import Settlement


class ScriptedSettlementStore:
    """A SettlementStore."""

    def __init__(self, left: Sequence[Settlement] = ()) -> None:
        """`left`: what an earlier process could not settle."""
        self._left = tuple(left)
        self.kept: list[Settlement] = []

    def take_over(self) -> Sequence[Settlement]:
        """What was left."""
        self.kept += self._left
        return self._left

    def add(self, settlement: Settlement) -> None:
        """Keeps it."""
        self.kept.append(settlement)

    def clear(self) -> None:
        """Forgets all."""
        self.kept.clear()
