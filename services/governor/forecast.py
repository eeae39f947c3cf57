"""What a load of tasks would cost and need, by what such tasks used so far."""

from collections import defaultdict
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

_MINUTES_AN_HOUR: Final = 60


class TierUse(NamedTuple):
    """What the latest tasks of a task type used of a tier."""

    tier: str
    model_calls: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class TaskUse:
    """What the latest tasks of a task type used."""

    tasks: int
    tiers: Sequence[TierUse]


@dataclass(frozen=True, slots=True)
class Forecast:
    """What a load would cost and need."""

    cost_micros_per_hour: int
    calls_per_minute: Mapping[str, float]
    method: str


class TaskUses(Protocol):
    """Knows what tasks used."""

    async def of(self, tenant: str, task_type: str) -> TaskUse | None:
        """What the latest tasks of the type used; None where there were none.

        Raises DependencyUnavailable.
        """
        ...


def forecast(load: Mapping[str, float], uses: Mapping[str, TaskUse]) -> Forecast:
    """What so many tasks a minute of each type would cost; each type has its use."""
    cost = 0.0
    calls = defaultdict[str, float](float)
    for task_type, per_minute in load.items():
        use = uses[task_type]
        for tier in use.tiers:
            calls[tier.tier or "unknown"] += per_minute * tier.model_calls / use.tasks
            cost += per_minute * _MINUTES_AN_HOUR * tier.cost_micros / use.tasks
    basis = ", ".join(f"{uses[each].tasks:,} of {each}" for each in sorted(load))
    return Forecast(
        round(cost),
        dict(calls),
        f"The mean of the latest tasks ({basis}) times the load; prices as they were charged.",
    )
