"""What the counters' script is told, in its words (counters.lua)."""

from collections.abc import Iterable, Sequence
from datetime import datetime, timedelta
from functools import lru_cache
from typing import Final

from services.governor.account import Charge, Counter

# Counters outlive their window, for settlements by a clock that is late.
_KEEP_WINDOW: Final = timedelta(days=2)
# One without an end is kept so long after its last reservation. What is known elsewhere
# holds where it is forgotten: a task's log, or the ledger.
_KEEP_LIFETIME: Final = timedelta(days=2)
_MILLISECOND: Final = timedelta(milliseconds=1)


class Numbers:
    """The counters of a batch, each once, by the number that stands for it in items."""

    def __init__(self) -> None:
        self._numbers: Final[dict[Counter, int]] = {}
        self._said: Final[dict[int, str]] = {}

    @property
    def counters(self) -> Iterable[Counter]:
        return self._numbers

    def of(self, counters: Sequence[Counter]) -> str:
        """Their numbers, as an item has them."""
        # Calls of a kind share one list.
        said = self._said.get(id(counters))
        if said is None:
            numbers = self._numbers
            said = ",".join(str(numbers.setdefault(each, len(numbers) + 1)) for each in counters)
            self._said[id(counters)] = said = said or "-"
        return said


def terms(counter: Counter, now: datetime) -> str:
    """What a counter is, and what its lines are."""
    # It is kept for days: a time to the minute will do, and all calls of that minute share it.
    return _terms(counter, now.replace(second=0, microsecond=0))


@lru_cache(maxsize=4096)
def _terms(counter: Counter, now: datetime) -> str:
    end = counter.window.end
    keep_window = 0 if end is None else max((end + _KEEP_WINDOW - now) // _MILLISECOND, 1000)
    keep_for = _KEEP_LIFETIME // _MILLISECOND if end is None else 0
    return (
        f"{counter.id} {counter.written} {counter.shutoff_micros} {counter.throttle_micros}"
        f" {counter.degrade_micros} {counter.careful_micros} {counter.opens_itself:d}"
        f" {keep_window} {keep_for}"
    )


def settle_item(charge: Charge, numbers: Numbers, leases: dict[str, int]) -> str:
    """A charge, and its lease by the number that stands for it."""
    lease = 0
    if charge.lease:
        lease = leases.setdefault(f"lease:{charge.tenant}/{charge.lease}", len(leases) + 1)
    called = max(milliseconds(charge.called_at), 0)
    # Redis counts bytes.
    length = len(charge.model.encode())
    usage = " ".join(map(str, charge.usage))
    return (
        f"{charge.cost_micros} {charge.sequence} {called} {charge.leased_micros} {lease}"
        f" {2 if charge.is_repeated else int(charge.is_first)} {charge.task_counter or '-'}"
        f" {numbers.of(charge.counters)} {usage} {length}"
        f" {charge.model}{charge.tenant}/{charge.key}"
    )


def milliseconds(time: datetime) -> int:
    """A time since 1970."""
    return round(time.timestamp() * 1000)
