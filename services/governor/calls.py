"""What is asked of the governor, and what it answers."""

from dataclasses import dataclass
from datetime import datetime
from typing import NamedTuple

from services.governor.account import Usage


class PlannedCall(NamedTuple):
    """A model call that somebody wants to make. Tokens are the most that are expected."""

    tenant: str
    key: str
    model: str
    input_tokens: int
    max_output_tokens: int
    # 0 where the model belongs to no tier.
    tier: int = 0
    # What kind of work it is; each empty for none.
    task_type: str = ""
    agent: str = ""
    session: str = ""
    # The task with a cap of its own; empty for none.
    task: str = ""
    task_limit_micros: int = 0
    # By the task's log.
    task_spent_micros: int = 0
    # Somebody waits for it: throttled only with everything else.
    interactive: bool = False


class MadeCall(NamedTuple):
    """A model call that was made."""

    tenant: str
    key: str
    model: str
    usage: Usage
    tier: int = 0
    task_type: str = ""
    agent: str = ""
    session: str = ""
    task: str = ""
    # The prices that it is reckoned by; the present ones if empty.
    price_version: str = ""
    # The lease that it was made under, and what that had set aside for it.
    lease: str = ""
    leased_micros: int = 0
    # When it ended; now where nobody says.
    called_at: datetime | None = None


class Allowed(NamedTuple):
    """Go ahead; so much is set aside until then."""

    # What to settle it under.
    key: str
    reserved_micros: int
    expires_at: datetime
    price_version: str
    # With a cheaper tier, where this is not 0; the budget that decided, and why.
    degrade_to: int = 0
    budget: str = ""
    explanation: str = ""


@dataclass(frozen=True, slots=True)
class Delayed:
    """There is room again later: for this kind of work, or when other calls have ended."""

    budget: str
    retry_after_seconds: float
    explanation: str


@dataclass(frozen=True, slots=True)
class SentLower:
    """The budget has no room for this call, and perhaps for one of a cheaper tier: ask again."""

    budget: str
    degrade_to: int
    explanation: str


@dataclass(frozen=True, slots=True)
class Denied:
    """The budget has no room for this call."""

    budget: str
    resets_at: datetime | None
    explanation: str


Verdict = Allowed | SentLower | Delayed | Denied


class Settlement(NamedTuple):
    """What was charged; `repeated` if that was done before."""

    cost_micros: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class WantedLease:
    """An amount out of which somebody wants to admit calls of a kind by itself."""

    tenant: str
    lease: str
    amount_micros: int
    task_type: str = ""
    agent: str = ""


@dataclass(frozen=True, slots=True)
class Lease:
    """What was granted: 0 micro-USD where each call must be asked for."""

    lease: str
    micros: int
    expires_at: datetime
    price_version: str
    # How long to wait before one is asked for again, where there is none now.
    retry_after_seconds: float
    # Calls of a session must be asked for.
    admit_sessions: bool
    # Tiers that may be used; all if empty.
    tiers: frozenset[int]
