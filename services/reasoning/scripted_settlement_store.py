"""Test-only: what outlives the process, in memory."""

from collections.abc import Iterable, Iterator, Sequence

from meshkit.errors import MeshError
from services.reasoning.governor import Settlement


class ScriptedSettlementStore:
    """A SettlementStore."""

    def __init__(self, left: Sequence[Settlement] = ()) -> None:
        """`left`: what an earlier process could not settle."""
        self.left: Sequence[Settlement] = tuple(left)
        self.kept: list[Settlement] = []
        self.refusals: list[tuple[Settlement, MeshError]] = []
        # While set, nothing more can be taken over.
        self.failure: OSError | None = None
        self.is_large = False

    def take_over(self) -> Iterator[Settlement]:
        """What was left."""
        left, self.left = self.left, ()
        self.kept += left
        yield from left
        if self.failure is not None:
            raise self.failure

    def add(self, settlement: Settlement) -> None:
        """Keeps it."""
        self.kept.append(settlement)

    def refuse(self, settlement: Settlement, error: MeshError) -> None:
        """Remembers it."""
        self.refusals.append((settlement, error))

    def clear(self) -> None:
        """Forgets all."""
        self.kept.clear()

    def replace(self, settlements: Iterable[Settlement]) -> None:
        """Forgets all but these."""
        self.kept = list(settlements)
        self.is_large = False
