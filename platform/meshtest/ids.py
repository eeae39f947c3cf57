"""Identifiers that a test can foretell."""

from meshkit.ids import stable_id


class FakeIds:
    """Counts from 1, in the shape of real identifiers."""

    def __init__(self) -> None:
        self._count = 0

    def new(self) -> str:
        """`00000000000000000000000001`, then `...2`, and so on."""
        self._count += 1
        return f"{self._count:026d}"

    def stable(self, *parts: str) -> str:
        """The real identifier of these parts."""
        return stable_id(*parts)
