"""Keeps the ledger up with the journal."""

from collections.abc import Sequence
from typing import Final

from meshkit.bus import Bus
from meshkit.log import Log
from services.governor.ledger_charge import Charge, charges_of
from services.governor.usage_stream import STREAM, SUBJECT
from sqlstore.carrier import Pace, Source
from sqlstore.projector import Projector, SharedCopy

# A message is a whole batch of settlements, and who opens a counter waits for the last one.
_PACE: Final = Pace(usual=0.02, busy=0.1)
# For how many entries a charge counts where a batch is cut off. The event loop that reads charges
# also admits calls, and they wait meanwhile: not for more than some two hundred of them.
_WEIGHT: Final = 8


def _weight(charges: Sequence[Charge]) -> int:
    return _WEIGHT * len(charges)


def ledger_projector(
    bus: Bus, ledger: SharedCopy[Sequence[Charge]], log: Log
) -> Projector[Sequence[Charge]]:
    """What carries every message of the journal."""
    source = Source(STREAM, (SUBJECT,), charges_of, _PACE, size=_weight)
    return Projector(bus, ledger, log, sources=[source])
