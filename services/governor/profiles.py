"""What kinds of work used so far: profiles of task types, and a copy of them in memory."""

import math
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.log import Log

# Of so many of the latest calls.
MOST_SAMPLES: Final = 500
# With fewer nothing is said of what is likely.
_LEAST_SAMPLES: Final = 20
_REFRESH_SECONDS: Final = 30.0
_MOST_KEPT: Final = 50_000
_SHARE: Final = 0.95


class WorkKey(NamedTuple):
    """A kind of work."""

    tenant: str
    task_type: str
    tier: int


class Sample(NamedTuple):
    """One call."""

    input_tokens: int
    output_tokens: int
    cost_micros: int


@dataclass(frozen=True, slots=True)
class Profile:
    """What calls of a kind of work used."""

    key: WorkKey
    samples: int
    mean_input_tokens: float
    mean_output_tokens: float
    mean_cost_micros: float
    p95_cost_micros: int
    # So many, or fewer, in 19 of 20 calls.
    output_tokens: int


class News(NamedTuple):
    """Profiles that changed, and up to where."""

    profiles: Sequence[Profile]
    # The last charge that was looked at.
    charge: int


class ProfileSource(Protocol):
    """Where profiles are found."""

    async def changed(self, since_charge: int) -> News:
        """Those of the work that was charged after that charge, 0 for all recent work.

        Raises DependencyUnavailable.
        """
        ...


def profile_of(key: WorkKey, samples: Sequence[Sample]) -> Profile:
    """The profile of these calls, at least one."""
    count = len(samples)
    return Profile(
        key=key,
        samples=count,
        mean_input_tokens=sum(each.input_tokens for each in samples) / count,
        mean_output_tokens=sum(each.output_tokens for each in samples) / count,
        mean_cost_micros=sum(each.cost_micros for each in samples) / count,
        p95_cost_micros=_most_of([each.cost_micros for each in samples]),
        output_tokens=_most_of([each.output_tokens for each in samples]),
    )


def _most_of(figures: Sequence[int]) -> int:
    """The 95th percentile: the least figure that 95 in 100 do not exceed."""
    return sorted(figures)[math.ceil(_SHARE * len(figures)) - 1]


class Profiles:
    """In memory, and half a minute old at most while the ledger is there."""

    def __init__(self, source: ProfileSource, clock: Clock, log: Log) -> None:
        self._source: Final = source
        self._clock: Final = clock
        self._log: Final = log
        self._profiles: dict[WorkKey, Profile] = {}
        self._charge = 0

    def likely(self, tenant: str, task_type: str, tier: int) -> Profile | None:
        """What a call is likely to use; None where too little is known."""
        found = self._profiles.get(WorkKey(tenant, task_type, tier))
        return found if found is not None and found.samples >= _LEAST_SAMPLES else None

    async def refresh(self) -> None:
        """Takes over what has changed. Raises DependencyUnavailable."""
        news = await self._source.changed(self._charge)
        self._charge = news.charge
        for each in news.profiles:
            # The latest to change stand last, and the first go where there are too many.
            self._profiles.pop(each.key, None)
            self._profiles[each.key] = each
        for key in list(self._profiles)[: max(0, len(self._profiles) - _MOST_KEPT)]:
            del self._profiles[key]

    async def run(self) -> None:
        """Refreshes until cancelled; what was known stays known while the ledger is away."""
        while True:
            try:
                await self.refresh()
            except MeshError as error:
                self._log.warning("profiles.stale", error=str(error))
            await self._clock.sleep(_REFRESH_SECONDS)
