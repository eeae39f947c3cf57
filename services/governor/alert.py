"""An alert: something about spending that somebody is told once."""

from dataclasses import dataclass
from datetime import UTC, datetime
from enum import StrEnum
from typing import Self

from meshkit.ids import stable_id


class Kind(StrEnum):
    """What an alert is about."""

    # A budget's spending reached the share of its limit at which this happens.
    ALERT = "ALERT"
    DEGRADE = "DEGRADE"
    THROTTLE = "THROTTLE"
    SHUTOFF = "SHUTOFF"
    # A month's limit will not last if spending goes on like this.
    VELOCITY = "VELOCITY"
    # An hour costs far more than the same hour of earlier days.
    ANOMALY = "ANOMALY"


@dataclass(frozen=True, slots=True)
class Alert:
    """What is told, to whom it concerns and to nobody else."""

    # The same for every time that this crossing is found or told, and for no other.
    id: str
    # Empty where it concerns all tenants together.
    tenant: str
    # Resource name; empty where there is none.
    budget: str
    kind: Kind
    # What happened, in a sentence.
    text: str
    # When: of the settlement with which it was found.
    time: datetime
    spent_micros: int
    # What the spending was compared with: the limit, or what is usual.
    limit_micros: int

    @classmethod
    def of_budget(
        cls,
        kind: Kind,
        *,
        tenant: str,
        budget: str,
        window_start: datetime | None,
        text: str,
        time: datetime,
        spent_micros: int,
        limit_micros: int,
        percent: int | None = None,
    ) -> Self:
        """One that is told once for each limit and threshold that a budget has in a window.

        `window_start` is None where a window never ends; `percent` is the threshold that
        was reached, None where the alert is of none.
        """
        window = f"{window_start.astimezone(UTC):%Y-%m-%dT%H:%MZ}" if window_start else ""
        threshold = () if percent is None else (str(percent),)
        return cls(
            id=stable_id("alert", kind, budget, window, str(limit_micros), *threshold),
            tenant=tenant,
            budget=budget,
            kind=kind,
            text=text,
            time=time,
            spent_micros=spent_micros,
            limit_micros=limit_micros,
        )

    @classmethod
    def of_hour(
        cls,
        *,
        tenant: str,
        hour: datetime,
        text: str,
        time: datetime,
        spent_micros: int,
        usual_micros: int,
    ) -> Self:
        """An anomaly, told once in each hour of a tenant."""
        return cls(
            id=stable_id("alert", Kind.ANOMALY, tenant, f"{hour.astimezone(UTC):%Y-%m-%dT%HZ}"),
            tenant=tenant,
            budget="",
            kind=Kind.ANOMALY,
            text=text,
            time=time,
            spent_micros=spent_micros,
            limit_micros=usual_micros,
        )
