"""The cost governor as reasoning sees it."""

from dataclasses import dataclass
from datetime import datetime
from enum import Enum
from typing import Protocol

from services.reasoning.generation import Spending
from services.reasoning.model import Tier


class Decision(Enum):
    """What the governor decided."""

    ALLOW = "allow"
    DEGRADE = "degrade"
    THROTTLE = "throttle"
    DENY = "deny"


@dataclass(frozen=True, slots=True)
class Admission:
    """A call that somebody wants to make."""

    spending: Spending
    model: str
    tier: Tier
    # Estimated.
    input_tokens: int
    # The most that may come back.
    max_output_tokens: int


@dataclass(frozen=True, slots=True)
class Verdict:
    """What the governor says to an admission."""

    decision: Decision
    # Reserved for the call, rounded up: 0 only where the model is free.
    reserved_micros: int = 0
    # With DEGRADE.
    degrade_to: Tier | None = None
    # With THROTTLE.
    retry_after_seconds: float = 0.0
    # The budget that decided, and why in a sentence, unless ALLOW.
    budget: str = ""
    explanation: str = ""
    # When that budget starts again, with DENY; None where it never does.
    resets_at: datetime | None = None


@dataclass(frozen=True, slots=True)
class Settlement:
    """A call that was made."""

    spending: Spending
    model: str
    input_tokens: int
    output_tokens: int


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

    async def release(self, spending: Spending) -> None:
        """Gives a reservation back unspent. Repeatable."""
        ...
