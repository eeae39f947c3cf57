"""Watches tenants' hours: those that cost far more than the same hour of earlier days."""

from collections.abc import Mapping
from dataclasses import dataclass, replace
from datetime import datetime, timedelta
from typing import Final, NamedTuple

from services.governor.alert import Alert
from services.governor.alert_anomaly import HISTORY_DAYS, Usual, usual
from services.governor.alert_memory import AlertMemory
from services.governor.alert_sums import Sums
from services.governor.alert_texts import moment
from services.governor.money import usd

_HOUR: Final = timedelta(hours=1)
_DAY: Final = timedelta(days=1)


class HourSpent(NamedTuple):
    """What some calls add to an hour of a tenant."""

    # Of the last call.
    time: datetime
    micros: int


# A tenant and the beginning of an hour.
Place = tuple[str, datetime]


@dataclass(frozen=True, slots=True)
class _Known:
    """What is known of an hour."""

    # None where too little is known.
    usual: Usual | None
    # Spent at the last look, and all that was charged since, repeats included.
    most_micros: int
    is_recorded: bool = False


class HourWatch:
    """Learns once what is usual at an hour, and asks the ledger again only where that is passed."""

    def __init__(self) -> None:
        self._memory: Final = AlertMemory[Place, _Known]()

    def alerts(self, spent: Mapping[Place, HourSpent], sums: Sums) -> list[Alert]:
        """What these calls call for, by what the ledger holds now."""
        self._memory.begin()
        found: list[Alert] = []
        for place, (time, micros) in spent.items():
            tenant, hour = place
            known = self._memory.get(place)
            if known is None:
                known = _known(tenant, hour, sums)
            elif not known.is_recorded:
                known = replace(known, most_micros=known.most_micros + micros)
                if _is_passed(known):
                    [exact] = sums.by_hour(tenant, [hour])
                    known = replace(known, most_micros=exact)
            if not known.is_recorded and known.usual is not None and _is_passed(known):
                found.append(_alert(tenant, hour, time, known.most_micros, known.usual))
                known = replace(known, is_recorded=True)
            self._memory.learn(place, known)
        return found

    def keep(self) -> None:
        """To be called when the transaction is done."""
        self._memory.keep()

    def forget(self) -> None:
        """To be called when others may have written to the ledger."""
        self._memory.forget()


def _known(tenant: str, hour: datetime, sums: Sums) -> _Known:
    first = sums.first_time(tenant)
    days = (hour - day * _DAY for day in range(1, HISTORY_DAYS + 1))
    earlier = [each for each in days if first is not None and each + _HOUR > first]
    spent, *before = sums.by_hour(tenant, [hour, *earlier])
    return _Known(usual(before), spent)


def _is_passed(known: _Known) -> bool:
    return known.usual is not None and known.usual.is_passed_by(known.most_micros)


def _alert(tenant: str, hour: datetime, time: datetime, micros: int, usual: Usual) -> Alert:
    usual_micros = round(usual.median_micros)
    return Alert.of_hour(
        tenant=tenant,
        hour=hour,
        text=f"tenants/{tenant} has spent {usd(micros)} since {moment(hour)}, where"
        f" {usd(usual_micros)} are usual at this hour: the median of {usual.days} days, with a"
        f" modified z-score of {usual.score(micros):.1f}.",
        time=time,
        spent_micros=micros,
        usual_micros=usual_micros,
    )
