"""How often something may happen."""

from typing import Final


class Rate:
    """Counts what happens in about a second."""

    def __init__(self, most_a_second: int) -> None:
        self._most: Final = most_a_second
        self._since = 0.0
        self._count = 0

    def is_exceeded(self, now: float) -> bool:
        """It has happened once more, at `now`, in seconds: whether that was too often."""
        if now - self._since > 1:
            self._since, self._count = now, 0
        self._count += 1
        return self._count > self._most
