"""What a tenant's tiers and the counters' decision mean for one call, in words."""

from dataclasses import dataclass
from datetime import datetime
from functools import lru_cache
from typing import Final, Self

from agentmesh.common.v1 import tier_pb2
from services.governor.account import Counter, Decision, Held, Refused, Wish
from services.governor.budget import ScopeKind
from services.governor.calls import Allowed, Delayed, Denied, SentLower, Verdict
from services.governor.money import usd

_LEVEL_DEGRADE: Final = 1
_LEVEL_THROTTLE: Final = 2
# What others hold back is mostly free again when their calls have ended.
_ROOM_AGAIN_SECONDS: Final = 2.0
_ROOM_AGAIN: Final = "There is room again when calls under way have ended."
_WHOLE: Final = 100
_THROTTLED: Final = "only interactive work goes on"
_DEGRADED: Final = "cheaper tiers are used"
_ALL: Final = frozenset(
    {tier_pb2.MODEL_TIER_FAST, tier_pb2.MODEL_TIER_BALANCED, tier_pb2.MODEL_TIER_POWERFUL}
)


@dataclass(frozen=True, slots=True)
class Tiers:
    """Which tiers one call may use. A tier of 0 is none: then nothing is said about tiers."""

    # What was asked for, and what the tenant may use of it: the tier itself, the next
    # lower one that is allowed, or 0 where none is.
    asked: int
    usable: int
    # The one that a nearly spent budget sends it to; 0 where it has the lowest.
    lower: int
    allowed: frozenset[int]

    @classmethod
    @lru_cache(maxsize=64)
    def of(cls, tier: int, allowed: frozenset[int]) -> Self:
        """`allowed`: all if empty."""
        if not tier:
            return cls(0, 0, 0, allowed)
        may = allowed or _ALL
        usable = max((each for each in may if each <= tier), default=0)
        lower = max((each for each in may if each < usable), default=0)
        return cls(tier, usable, lower, allowed)

    def refusal(self, tenant: str) -> Denied | None:
        """Why the call cannot be made at all; None where it can."""
        if self.usable == self.asked:
            return None
        if self.usable:
            return None
        return Denied(
            f"tenants/{tenant}",
            None,
            f"The tenant {tenant} may use {_named(self.allowed)} models only, and not those of the"
            f" {_name(self.asked)} tier or below.",
        )

    def allow(self, tenant: str, allowed: Allowed) -> Allowed:
        """`allowed`, with the tier that the tenant may use instead, where it is another."""
        if self.usable == self.asked:
            return allowed
        budget, text = self.sent_lower(tenant)
        return allowed._replace(degrade_to=self.usable, budget=budget, explanation=text)

    def sent_lower(self, tenant: str) -> tuple[str, str]:
        """What sends the call to a cheaper tier that the tenant may use, and why."""
        return (
            f"tenants/{tenant}",
            f"The tenant {tenant} may use {_named(self.allowed)} models only.",
        )


def verdict_of(
    wish: Wish,
    outcome: Held | Refused,
    tiers: Tiers,
    price_version: str,
    throttle_seconds: float,
) -> Verdict:
    """The answer to a call."""
    if isinstance(outcome, Held):
        allowed = Allowed(outcome.key, outcome.amount_micros, outcome.expires_at, price_version)
        if outcome.decision.level < _LEVEL_DEGRADE:
            return tiers.allow(wish.tenant, allowed)
        name, text = explain(outcome.decision, wish)
        return allowed._replace(degrade_to=tiers.lower, budget=name, explanation=text)
    name, text = explain(outcome.decision, wish)
    if outcome.decision.level == _LEVEL_THROTTLE:
        return Delayed(name, throttle_seconds, text)
    if comes_free(outcome.decision, wish):
        return Delayed(name, _ROOM_AGAIN_SECONDS, text)
    counter = _counter(outcome.decision, wish)
    if counter is not None and _has_some_left(outcome.decision, counter) and tiers.lower:
        return SentLower(name, tiers.lower, text)
    return Denied(name, _resets_at(outcome.decision, wish), text)


def comes_free(decision: Decision, wish: Wish) -> bool:
    """Whether what is refused fits as soon as calls under way have ended: then it may come back."""
    if decision.level <= _LEVEL_THROTTLE:
        return False
    counter = _counter(decision, wish)
    return counter is not None and _only_reserved(decision, counter, wish)


def explain(decision: Decision, wish: Wish) -> tuple[str, str]:
    """The name of the budget that decided, and why in a sentence."""
    counter = _counter(decision, wish)
    if counter is None:
        # It was admitted under a budget that is no longer there.
        return "", "A budget under which it was admitted is nearly spent."
    budget = counter.budget
    name, spent, reserved = budget.name, decision.spent_micros, decision.reserved_micros
    stands = f"{usd(spent)} are spent and {usd(reserved)} reserved"
    if budget.scope.kind is ScopeKind.GLOBAL:
        # What all tenants spend is no tenant's business.
        return name, _of_all(decision, counter, wish)
    if decision.level > _LEVEL_THROTTLE:
        percent = budget.thresholds.shutoff
        of = f" ({percent} % of {usd(budget.limit_micros)})" if percent < _WHOLE else ""
        return name, (
            f"{name} allows {usd(counter.shutoff_micros)}{of}; {stands}, so that"
            f" {usd(wish.most_micros)} more do not fit."
            f" {_ROOM_AGAIN if _only_reserved(decision, counter, wish) else _again(counter)}"
        )
    if decision.level == _LEVEL_THROTTLE:
        percent, what = budget.thresholds.throttle, _THROTTLED
    else:
        percent, what = budget.thresholds.degrade, _DEGRADED
    return name, f"{name} allows {usd(budget.limit_micros)}; {stands}: from {percent} % on {what}."


def _of_all(decision: Decision, counter: Counter, wish: Wish) -> str:
    if comes_free(decision, wish):
        return f"What all tenants together may spend is reserved. {_ROOM_AGAIN}"
    if decision.level > _LEVEL_THROTTLE:
        return f"What all tenants together may spend is spent. {_again(counter)}"
    what = _THROTTLED if decision.level == _LEVEL_THROTTLE else _DEGRADED
    return f"What all tenants together may spend is nearly spent: {what}."


def _only_reserved(decision: Decision, counter: Counter, wish: Wish) -> bool:
    """Whether there would be room but for calls that are under way, and for leases."""
    return decision.spent_micros + wish.most_micros <= counter.shutoff_micros


def _has_some_left(decision: Decision, counter: Counter) -> bool:
    return decision.spent_micros < counter.shutoff_micros


def _again(counter: Counter) -> str:
    if end := counter.window.end:
        return f"It starts again at {end:%Y-%m-%dT%H:%M:%SZ}."
    return "It does not start again."


def _counter(decision: Decision, wish: Wish) -> Counter | None:
    return next((each for each in wish.counters if each.id == decision.counter), None)


def _resets_at(decision: Decision, wish: Wish) -> datetime | None:
    counter = _counter(decision, wish)
    return counter.window.end if counter else None


def _name(tier: int) -> str:
    return tier_pb2.ModelTier.Name(tier).removeprefix("MODEL_TIER_")  # type: ignore[arg-type]


def _named(tiers: frozenset[int]) -> str:
    return " and ".join(_name(each) for each in sorted(tiers))
