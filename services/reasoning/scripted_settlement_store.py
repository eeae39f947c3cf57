"""Test-only: what outlives the process, in memory."""

from collections.abc import Iterable, Sequence

from services.reasoning.governor import Settlement


class ScriptedSettlementStore:
    """A SettlementStore."""

    def __init__(self, left: Sequence[Settlement] = ()) -> None:
        """`left`: what an earlier process could not settle."""
        self.left: Sequence[Settlement] = tuple(left)
        self.kept: list[Settlement] = []
        self.is_large = False

    def take_over(self) -> Sequence[Settlement]:
        """What was left."""
        left, self.left = self.left, ()
        self.kept += left
        return left

    def add(self, settlement: Settlement) -> None:
        """Keeps it."""
        self.kept.append(settlement)

    def clear(self) -> None:
        """Forgets all."""
        self.kept.clear()

    def replace(self, settlements: Iterable[Settlement]) -> None:
        """Forgets all but these."""
        self.kept = list(settlements)
        self.is_large = False
