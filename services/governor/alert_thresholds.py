"""Which shares of a budget's limit its spending has reached."""

from collections.abc import Mapping
from typing import Final

from services.governor.alert import Kind
from services.governor.budget import Thresholds

_HUNDRED: Final = 100


def percent_of(kind: Kind, thresholds: Thresholds) -> int:
    """At which share of a limit it happens; 0 where it does not."""
    return _percents(thresholds)[kind]


def reached(spent_micros: int, limit_micros: int, thresholds: Thresholds) -> Mapping[Kind, int]:
    """The kinds of alert that this spending calls for, mildest first, with their percent."""
    return {
        kind: percent
        for kind, percent in _percents(thresholds).items()
        # Whole numbers: a share of a limit may lie between two micro-dollars.
        if percent and spent_micros * _HUNDRED >= percent * limit_micros
    }


def _percents(thresholds: Thresholds) -> Mapping[Kind, int]:
    return {
        Kind.ALERT: thresholds.alert,
        Kind.DEGRADE: thresholds.degrade,
        Kind.THROTTLE: thresholds.throttle,
        Kind.SHUTOFF: thresholds.shutoff,
    }
