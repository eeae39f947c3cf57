"""The cost governor as reasoning sees it."""

from collections.abc import Sequence
from datetime import datetime
from enum import Enum
from typing import Protocol

from meshkit.errors import MeshError
from meshkit.frozen import frozen
from services.reasoning.generation import Spending
from services.reasoning.model import Tier


class Decision(Enum):
    """What the governor decided."""

    ALLOW = "allow"
    DEGRADE = "degrade"
    THROTTLE = "throttle"
    DENY = "deny"


@frozen
class Admission:
    """A call that somebody wants to make."""

    spending: Spending
    model: str
    tier: Tier
    # Estimated.
    input_tokens: int
    # The most that may come back.
    max_output_tokens: int


@frozen
class Verdict:
    """What the governor says to an admission."""

    decision: Decision
    # The key under which the call is settled: another one than was asked with where
    # that is settled already, since this call is then paid besides. Empty: the same.
    key: str = ""
    # Reserved for the call, rounded up: 0 only where the model is free.
    reserved_micros: int = 0
    # With DEGRADE.
    degrade_to: Tier | None = None
    # With DEGRADE: nothing is reserved, the cheaper call has to be asked for.
    ask_again: bool = False
    # With THROTTLE.
    retry_after_seconds: float = 0.0
    # The budget that decided, and why in a sentence, unless ALLOW.
    budget: str = ""
    explanation: str = ""
    # When that budget starts again, with DENY; None where it never does.
    resets_at: datetime | None = None
    # By which prices it was reserved; empty for the governor's present ones.
    price_version: str = ""


@frozen
class Settlement:
    """A call that was made."""

    spending: Spending
    model: str
    input_tokens: int
    output_tokens: int
    tier: Tier | None = None
    # By which prices it is charged; empty for the governor's present ones.
    price_version: str = ""
    # The lease under which it was made, and how much of it the call takes; empty for none.
    lease: str = ""
    leased_micros: int = 0
    # When the call ended, in milliseconds since 1970; 0 where that is not known.
    call_time_ms: int = 0
    # The part of `input_tokens` that the provider had cached.
    cached_input_tokens: int = 0


@frozen
class LeaseWish:
    """A lease that is asked for."""

    tenant: str
    lease: str
    task_type: str
    agent: str
    micros: int


@frozen
class LeaseGrant:
    """What the governor answers to a wish."""

    # 0 where each call must be asked for.
    micros: int
    expires_at: datetime
    # By which calls are charged; empty for the governor's present one.
    price_version: str = ""
    # When to ask again, where nothing is granted.
    retry_after_seconds: float = 0.0
    asks_for_sessions: bool = False
    # All if empty.
    tiers: frozenset[Tier] = frozenset()


class Governor(Protocol):
    """Decides what may be spent and keeps account of what was.

    Every method raises a MeshError: DependencyUnavailable and its like where
    the governor cannot be reached, others where it refuses.
    """

    async def admit(self, admission: Admission) -> Verdict:
        """Whether the call may be made; reserves its cost where it may."""
        ...

    async def settle(self, settlement: Settlement) -> int:
        """Charges what was used; answers the cost in micro-USD. Repeatable."""
        ...

    async def settle_all(self, settlements: Sequence[Settlement]) -> Sequence[MeshError | None]:
        """Charges many at once; answers in order, None for what is charged. Repeatable.

        Raises a MeshError where nothing is known of any.
        """
        ...

    async def release(self, spending: Spending) -> None:
        """Gives a reservation back unspent. Repeatable."""
        ...
