"""How many calls may be made beyond those that somebody asked for."""

from typing import Final


class ExtraCalls:
    """A token bucket that calls fill a little and extra calls empty.

    After Finagle's RetryBudget (a share of the requests) and gRPC's retry throttling
    (proposal A6: a small bucket, so that what was saved in good times is soon spent).
    """

    def __init__(self, percent: float, *, most: float) -> None:
        """`percent` of the calls may be extra ones, and `most` at once. It starts full."""
        self._share: Final = percent / 100
        self._most: Final = most if percent else 0.0
        self._saved = self._most

    def earn(self) -> None:
        """A call was asked for."""
        self._saved = min(self._most, self._saved + self._share)

    def spend(self) -> bool:
        """Whether an extra call may be made."""
        # A tenth ten times is a little less than one.
        if self._saved < 1 - 1e-9:
            return False
        self._saved -= 1
        return True
