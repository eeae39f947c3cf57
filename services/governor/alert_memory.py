"""What watches know of the ledger, so that they need not ask it about every call."""

from collections import OrderedDict
from collections.abc import Hashable
from typing import Final, Generic, TypeVar

Place = TypeVar("Place", bound=Hashable)
Known = TypeVar("Known")

# Places that are remembered; to look at one anew costs a few questions to the ledger.
_MOST_KEPT: Final = 20_000


class AlertMemory(Generic[Place, Known]):
    """What is learnt in a transaction is kept when that is done.

    So that what was not recorded after all is found again.
    """

    def __init__(self) -> None:
        self._known: OrderedDict[Place, Known] = OrderedDict()
        self._learnt: dict[Place, Known] = {}

    def begin(self) -> None:
        """To be called with a transaction: what was learnt in one that failed is not true."""
        self._learnt = {}

    def get(self, place: Place) -> Known | None:
        """What is known; None where nothing is."""
        return self._known.get(place)

    def learn(self, place: Place, known: Known) -> None:
        """Knows it from the end of the transaction on."""
        self._learnt[place] = known

    def keep(self) -> None:
        """To be called when the transaction is done."""
        for place, known in self._learnt.items():
            self._known[place] = known
            self._known.move_to_end(place)
        self._learnt = {}
        while len(self._known) > _MOST_KEPT:
            self._known.popitem(last=False)

    def forget(self) -> None:
        """To be called when others may have written to the ledger."""
        self._known.clear()
        self._learnt = {}
