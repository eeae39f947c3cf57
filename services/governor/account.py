"""What the governor asks of its counters, and what these answer."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple, Protocol


@dataclass(frozen=True, slots=True)
class Scope:
    """A budget that a call falls under, and the counter that stands for it."""

    # Resource name, such as `tenants/acme/budgets/tenant-day`.
    budget: str
    # Unique within the tenant, such as `day:2026-11-20`.
    counter: str
    limit_micros: int
    # When the counter may be forgotten.
    keep_until: datetime
    # When the budget starts again; None for never.
    resets_at: datetime | None
    # Known to be spent from elsewhere. The larger of this and the counter holds.
    spent_elsewhere_micros: int = 0


class Usage(NamedTuple):
    """What a call used. `cached_input_tokens` are a part of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    cache_hits: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True)
class Wish:
    """Something that is to be reserved in all its scopes, or in none."""

    tenant: str
    key: str
    amount_micros: int
    # The task's own cap, where it has one.
    task: Scope | None = None


@dataclass(frozen=True, slots=True)
class Held:
    """Reserved, now or earlier with the same key."""

    amount_micros: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Refused:
    """Reserved nowhere, because of the first of its scopes that has no room."""

    scope: Scope
    spent_micros: int
    reserved_micros: int


@dataclass(frozen=True, slots=True)
class SettledBefore:
    """The key is settled, so there is nothing left to release."""


@dataclass(frozen=True, slots=True)
class Charge:
    """What takes the place of a reservation, or is counted although there is none."""

    tenant: str
    key: str
    # Equal for equal figures: tells a repeat from a contradiction.
    digest: str
    cost_micros: int
    usage: Usage
    # The counter of the task; changed only where the task has a cap.
    task_counter: str | None = None


@dataclass(frozen=True, slots=True)
class Charged:
    """The key is settled at this cost."""

    cost_micros: int
    # Settled before, with the same figures.
    repeated: bool


@dataclass(frozen=True, slots=True)
class ChargedOtherwise:
    """The key was settled before with other figures; nothing was changed."""

    cost_micros: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a counter stands."""

    spent_micros: int
    reserved_micros: int
    usage: Usage


# The windows of each tenant, in the order in which they are looked at.
Windows = Mapping[str, Sequence[Scope]]


class Counters(Protocol):
    """Counts what tenants reserve and spend. Each item is atomic over its scopes.

    All methods raise DependencyUnavailable where the store cannot be reached;
    repeating them is then safe.
    """

    async def reserve(
        self, wishes: Sequence[Wish], *, windows: Windows, expires_at: datetime
    ) -> Sequence[Held | Refused]:
        """Reserves each wish in its task and its tenant's windows; answers in order.

        One that would pass a limit is refused, by the first scope that has no room.
        A key without a reservation is a new one, even if it was settled before.
        """
        ...

    async def settle(
        self, charges: Sequence[Charge], *, windows: Windows
    ) -> Sequence[Charged | ChargedOtherwise]:
        """Replaces reservations by what was used; answers in order.

        What has no reservation (any more) is counted in the tenant's windows, unless
        the key was settled before.
        """
        ...

    async def release(self, tenant: str, key: str) -> int | SettledBefore:
        """Gives a reservation back and answers its micro-USD: 0 where there is none."""
        ...

    async def read(self, tenant: str, counters: Sequence[str]) -> Sequence[Standing]:
        """Where these counters stand; zeros for one that was never used."""
        ...
