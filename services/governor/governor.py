"""Decides what may be spent before it is spent, and keeps account of what was."""

import hashlib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, MeshError
from services.governor.account import (
    Charge,
    ChargedOtherwise,
    Counters,
    Held,
    Refused,
    Scope,
    SettledBefore,
    Standing,
    Usage,
    Windows,
    Wish,
)
from services.governor.price_book import PriceBook
from services.governor.window import Window, day_of, month_of

# Counters outlive their window, for reservations that end after it.
_KEEP_WINDOW: Final = timedelta(days=2)
# A task's counter. What the task's log says holds where this is forgotten.
_KEEP_TASK: Final = timedelta(days=2)


@dataclass(frozen=True, slots=True)
class Limits:
    """What a tenant may spend, in micro-USD."""

    day_micros: int
    month_micros: int


@dataclass(frozen=True, slots=True)
class PlannedCall:
    """A model call that somebody wants to make. Tokens are the most that are expected."""

    tenant: str
    key: str
    model: str
    input_tokens: int
    max_output_tokens: int
    # The task with a cap of its own; empty for none.
    task: str = ""
    task_limit_micros: int = 0
    # By the task's log.
    task_spent_micros: int = 0


@dataclass(frozen=True, slots=True)
class MadeCall:
    """A model call that was made."""

    tenant: str
    key: str
    model: str
    usage: Usage
    task: str = ""


@dataclass(frozen=True, slots=True)
class Allowed:
    """Go ahead; so much is set aside until then."""

    reserved_micros: int
    expires_at: datetime


@dataclass(frozen=True, slots=True)
class Denied:
    """The budget has no room for this call."""

    budget: str
    resets_at: datetime | None
    explanation: str


@dataclass(frozen=True, slots=True)
class Settlement:
    """What was charged; `repeated` if that was done before."""

    cost_micros: int
    repeated: bool


@dataclass(frozen=True, slots=True)
class Spend:
    """What a tenant spent in a window."""

    window: Window
    limit_micros: int
    standing: Standing


class CostGovernor:
    """The rules. Takes many calls at once; a fault of one leaves the others alone."""

    def __init__(
        self,
        *,
        prices: PriceBook,
        default_limits: Limits,
        tenant_limits: Mapping[str, Limits],
        counters: Counters,
        clock: Clock,
        reservation_seconds: int,
    ) -> None:
        self._prices: Final = prices
        self._default_limits: Final = default_limits
        self._tenant_limits: Final = tenant_limits
        self._counters: Final = counters
        self._clock: Final = clock
        self._reserve_for: Final = timedelta(seconds=reservation_seconds)

    async def admit(self, calls: Sequence[PlannedCall]) -> list[Allowed | Denied | MeshError]:
        """Reserves the estimated cost of each call in all its scopes; answers in order.

        The same key again finds its reservation and reserves nothing more. A
        key that is settled has none: it is admitted like a new one, for a call
        that is charged in addition. A model without any price to pay
        needs no counter, and is allowed however much is spent. An item's error
        is NoPrice. Raises DependencyUnavailable.
        """
        now = self._clock.now()
        expires_at = now + self._reserve_for
        answers: list[Allowed | Denied | MeshError] = []
        wishes: dict[int, Wish] = {}
        for index, call in enumerate(calls):
            try:
                amount = self._estimate(call)
            except MeshError as error:
                answers.append(error)
                continue
            answers.append(Allowed(0, expires_at))
            if amount:
                wishes[index] = Wish(call.tenant, call.key, amount, _task_scope(call, now))
        if wishes:
            outcomes = await self._counters.reserve(
                list(wishes.values()),
                windows=self._windows({wish.tenant for wish in wishes.values()}, now),
                expires_at=expires_at,
            )
            for (index, wish), outcome in zip(wishes.items(), outcomes, strict=True):
                answers[index] = _verdict(wish, outcome)
        return answers

    async def settle(self, calls: Sequence[MadeCall]) -> list[Settlement | MeshError]:
        """Charges what each call used in place of its reservation; answers in order.

        With the same figures again nothing changes, unless the key was admitted
        again in between. Without a reservation, or after it expired, it is
        counted all the same. An item's error is
        NoPrice or AlreadySettled. Raises DependencyUnavailable.
        """
        now = self._clock.now()
        answers: list[Settlement | MeshError] = []
        charges: dict[int, Charge] = {}
        for index, call in enumerate(calls):
            try:
                charge = self._charge(call)
            except MeshError as error:
                answers.append(error)
                continue
            charges[index] = charge
            answers.append(Settlement(charge.cost_micros, repeated=False))
        if charges:
            outcomes = await self._counters.settle(
                list(charges.values()),
                windows=self._windows({charge.tenant for charge in charges.values()}, now),
            )
            for index, outcome in zip(charges, outcomes, strict=True):
                if isinstance(outcome, ChargedOtherwise):
                    answers[index] = _already_settled(calls[index].key, outcome.cost_micros)
                elif outcome.repeated:
                    answers[index] = Settlement(outcome.cost_micros, repeated=True)
        return answers

    async def release(self, tenant: str, key: str) -> int:
        """Gives a reservation back; what it held, 0 if there is none (any more).

        Raises AlreadySettled and DependencyUnavailable.
        """
        outcome = await self._counters.release(tenant, key)
        if isinstance(outcome, SettledBefore):
            raise AlreadySettled(f"The key {key!r} is settled; there is nothing to release.")
        return outcome

    async def spend(self, tenant: str) -> tuple[Spend, Spend]:
        """What the tenant spent in the present day and month. Raises DependencyUnavailable."""
        now = self._clock.now()
        limits = self._limits(tenant)
        day, month = day_of(now), month_of(now)
        of_day, of_month = await self._counters.read(tenant, [day.id, month.id])
        return Spend(day, limits.day_micros, of_day), Spend(month, limits.month_micros, of_month)

    def _limits(self, tenant: str) -> Limits:
        return self._tenant_limits.get(tenant, self._default_limits)

    def _estimate(self, call: PlannedCall) -> int:
        """What to reserve. At least 1 micro-USD where anything has a price, so that a
        spent budget denies calls that come without an estimate, too."""
        price = self._prices.price(call.model)
        cost = price.cost_micros(
            input_tokens=call.input_tokens, output_tokens=call.max_output_tokens
        )
        return 0 if price.free else max(1, cost)

    def _windows(self, tenants: Iterable[str], now: datetime) -> Windows:
        """The month before the day: where both are spent, it is in vain to wait for the day."""
        windows = month_of(now), day_of(now)
        scopes: dict[str, Sequence[Scope]] = {}
        for tenant in tenants:
            limits = self._limits(tenant)
            scopes[tenant] = [
                Scope(
                    budget=f"tenants/{tenant}/budgets/tenant-{window.kind}",
                    counter=window.id,
                    limit_micros=limit,
                    keep_until=window.end + _KEEP_WINDOW,
                    resets_at=window.end,
                )
                for window, limit in zip(
                    windows, (limits.month_micros, limits.day_micros), strict=True
                )
            ]
        return scopes

    def _charge(self, call: MadeCall) -> Charge:
        usage = call.usage
        return Charge(
            tenant=call.tenant,
            key=call.key,
            digest=_digest(call),
            cost_micros=self._prices.price(call.model).cost_micros(
                input_tokens=usage.input_tokens,
                output_tokens=usage.output_tokens,
                cached_input_tokens=usage.cached_input_tokens,
            ),
            usage=usage,
            task_counter=_task_counter(call.task) if call.task else None,
        )


def _task_scope(call: PlannedCall, now: datetime) -> Scope | None:
    if not (call.task and call.task_limit_micros):
        return None
    return Scope(
        budget=f"tenants/{call.tenant}/budgets/task-lifetime-{call.task}",
        counter=_task_counter(call.task),
        limit_micros=call.task_limit_micros,
        keep_until=now + _KEEP_TASK,
        resets_at=None,
        spent_elsewhere_micros=call.task_spent_micros,
    )


def _task_counter(task: str) -> str:
    return f"task:{task}"


def _digest(call: MadeCall) -> str:
    # Without the cost: the price book may have changed in between.
    figures = repr((call.model, *call.usage))
    return hashlib.blake2b(figures.encode(), digest_size=8).hexdigest()


def _verdict(wish: Wish, outcome: Held | Refused) -> Allowed | Denied:
    match outcome:
        case Held(amount_micros, held_until):
            return Allowed(amount_micros, held_until)
        case Refused(scope, spent, reserved):
            again = "It does not start again."
            if scope.resets_at:
                again = f"It starts again at {scope.resets_at:%Y-%m-%dT%H:%M:%SZ}."
            return Denied(
                scope.budget,
                scope.resets_at,
                f"{scope.budget} allows {usd(scope.limit_micros)}; {usd(spent)} are spent and"
                f" {usd(reserved)} reserved, so that {usd(wish.amount_micros)} more do not fit."
                f" {again}",
            )


def _already_settled(key: str, cost_micros: int) -> AlreadySettled:
    return AlreadySettled(
        f"The key {key!r} was settled before with other figures, at {usd(cost_micros)}.",
        metadata={"cost_micros": str(cost_micros)},
    )


def usd(micros: int) -> str:
    """An amount for people: two decimals, and more only where there are any."""
    whole, rest = divmod(micros, 1_000_000)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{decimals} USD"
