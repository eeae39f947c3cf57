"""Asks the cost governor before a call, and tells it after."""

import asyncio
from collections.abc import AsyncGenerator, Callable, Mapping
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Final

import grpc

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import AlreadySettled, DependencyUnavailable, MeshError, NoPrice
from meshkit.ids import Ids
from services.reasoning.allowance import Allowance
from services.reasoning.errors import budget_exhausted, throttled
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.governor import Admission, Decision, Governor, Settlement, Verdict
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.price_list import Price
from services.reasoning.settlement_queue import SettlementQueue
from services.reasoning.token_estimate import bytes_tokens, prompt_tokens

UNGOVERNED: Final = (
    "The cost governor could not be reached: the call was made on the local allowance"
    " and is settled later."
)
SETTLED_LATER: Final = (
    "The cost governor did not answer after the call: its cost is by the price list"
    " and is settled later."
)
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# A call that failed with no more than this left was given too little time to tell anything
# about the governor: as much is kept back from it, for answering.
_NO_TIME_SECONDS: Final = 0.05


@dataclass(frozen=True, slots=True)
class _Grant:
    """A call that may be made, and how it is settled."""

    call: ModelCall
    input_tokens: int
    # False where the governor could not be asked.
    governed: bool
    # The call cannot cost anything.
    free: bool
    # Taken from the local allowance.
    allowed_micros: int
    degradations: tuple[str, ...]


class BudgetedModel:
    """A Generator that spends only what it may.

    A governor that cannot be reached does not stop it: calls go on against a
    small local allowance, say so, and are settled later.
    """

    def __init__(
        self,
        inner: Generator,
        governor: Governor,
        settlements: SettlementQueue,
        *,
        first_of: Callable[[Tier], ModelSpec | None],
        prices: Mapping[str, Price],
        allowance: Allowance,
        ask_again_seconds: float,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`first_of`: a tier's model, for calls that are sent to a cheaper one.

        `ask_again_seconds`: how long a governor that could not be reached is left alone.
        """
        self._inner: Final = inner
        self._governor: Final = governor
        self._settlements: Final = settlements
        self._first_of: Final = first_of
        self._prices: Final = prices
        self._allowance: Final = allowance
        self._ask_again_seconds: Final = ask_again_seconds
        self._clock: Final = clock
        self._ids: Final = ids
        self._leave_alone_until = clock.monotonic_seconds()

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call where a budget allows it.

        Raises BudgetExhausted, RateLimited, and what the call itself raises.
        """
        grant = await self._admit(call)
        try:
            generation = await self._inner.generate(grant.call)
        except BaseException:
            self._give_back(grant)
            raise
        return await self._charged(grant, generation)

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """As `generate`. A stream that is left early is charged for what it had produced."""
        grant = await self._admit(call)
        produced = 0
        ended = False
        try:
            async with aclosing(self._inner.stream(grant.call)) as updates:
                async for update in updates:
                    if isinstance(update, Generation):
                        ended = True
                        yield await self._charged(grant, update)
                    else:
                        produced += len(update.encode())
                        yield update
        finally:
            if not ended and produced:
                self._put(grant, _settlement(grant, bytes_tokens(produced)))
            elif not ended:
                self._give_back(grant)

    async def _admit(self, call: ModelCall) -> _Grant:
        if not call.spending.key:
            call = replace(call, spending=replace(call.spending, key=self._ids.new()))
        input_tokens = prompt_tokens(call.prompt.messages, call.prompt.tools)
        limit = call.prompt.max_output_tokens or call.model.max_output_tokens
        admission = Admission(
            call.spending,
            call.model.name,
            call.tier,
            input_tokens,
            min(limit, call.model.max_output_tokens),
        )
        verdict = await self._ask(admission)
        if verdict is None:
            return self._on_allowance(call, admission)
        if verdict.decision is Decision.DENY:
            raise budget_exhausted(verdict)
        if verdict.decision is Decision.THROTTLE:
            raise throttled(verdict)
        degradations: tuple[str, ...] = ()
        if verdict.decision is Decision.DEGRADE and verdict.degrade_to is not None:
            call, degradations = self._degraded(call, verdict.degrade_to, verdict.explanation)
        price = self._prices.get(call.model.name)
        # Both: the governor charges, and by a price book that may be a newer one.
        free = verdict.reserved_micros == 0 and price is not None and price.free
        return _Grant(call, input_tokens, True, free, 0, degradations)

    async def _ask(self, admission: Admission) -> Verdict | None:
        """The governor's verdict; None where it cannot be reached.

        Raises DeadlineExceeded where it was the caller's own time that ran out.
        """
        if self._clock.monotonic_seconds() < self._leave_alone_until:
            return None
        try:
            return await self._governor.admit(admission)
        except asyncio.CancelledError:
            # It may have been reserved all the same.
            self._settlements.put(admission.spending)
            raise
        except MeshError as error:
            if error.code not in _UNREACHABLE:
                raise
            left = deadline.remaining_seconds()
            if (
                error.code is grpc.StatusCode.DEADLINE_EXCEEDED
                and left is not None
                and left <= _NO_TIME_SECONDS
            ):
                self._settlements.put(admission.spending)
                raise
            self._leave_alone_until = self._clock.monotonic_seconds() + self._ask_again_seconds
            return None

    def _on_allowance(self, call: ModelCall, admission: Admission) -> _Grant:
        price = self._prices.get(call.model.name)
        if price is None:
            raise NoPrice(
                f"The model {call.model.name!r} has no price.", metadata={"model": call.model.name}
            )
        cost = price.cost_micros(admission.input_tokens, admission.max_output_tokens)
        if self._settlements.full or not self._allowance.take(cost):
            raise DependencyUnavailable(
                "The cost governor cannot be reached, and what may be spent without it is spent.",
                metadata={"dependency": "governor"},
                retry_after_seconds=self._ask_again_seconds,
            )
        return _Grant(call, admission.input_tokens, False, cost == 0, cost, (UNGOVERNED,))

    def _degraded(
        self, call: ModelCall, tier: Tier, explanation: str
    ) -> tuple[ModelCall, tuple[str, ...]]:
        model = self._first_of(tier)
        if model is None or tier >= call.tier:
            return call, ()
        sentence = f"Answered by the {_said(tier)} tier instead of the {_said(call.tier)} one"
        sentence += f": {explanation}" if explanation else "."
        return replace(call, model=model, tier=tier), (sentence,)

    async def _charged(self, grant: _Grant, generation: Generation) -> Generation:
        """`generation` with its cost.

        Nobody waits for a settlement that cannot cost anything; any other
        must be known before the answer can say what it cost.
        """
        completion = generation.completion
        settlement = _settlement(grant, completion.output_tokens, completion.input_tokens)
        degradations = (*grant.degradations, *generation.degradations)
        cost = 0
        if not grant.governed:
            cost = self._cost_by_list(settlement)
            self._put(grant, settlement)
        elif grant.free and not self._settlements.full:
            self._settlements.put(settlement)
        else:
            try:
                cost = await self._governor.settle(settlement)
            except AlreadySettled:
                # Another call with the same key was made at the same time: that one is charged.
                cost = self._cost_by_list(settlement)
            except MeshError:
                # Whatever it is: the model is paid, and its answer is not to be paid twice.
                cost = self._cost_by_list(settlement)
                self._put(grant, settlement)
                degradations = (*degradations, SETTLED_LATER)
            except BaseException:
                self._put(grant, settlement)
                raise
        return Generation(completion, generation.model, generation.tier, cost, degradations)

    def _put(self, grant: _Grant, settlement: Settlement) -> None:
        if grant.free:
            self._settlements.put(settlement)
        else:
            self._settlements.put_due(settlement)

    def _cost_by_list(self, settlement: Settlement) -> int:
        price = self._prices.get(settlement.model)
        return price.cost_micros(settlement.input_tokens, settlement.output_tokens) if price else 0

    def _give_back(self, grant: _Grant) -> None:
        if grant.governed:
            self._settlements.put(grant.call.spending)
        else:
            self._allowance.give_back(grant.allowed_micros)


def _settlement(grant: _Grant, output_tokens: int, input_tokens: int | None = None) -> Settlement:
    return Settlement(
        grant.call.spending,
        grant.call.model.name,
        grant.input_tokens if input_tokens is None else input_tokens,
        output_tokens,
    )


def _said(tier: Tier) -> str:
    return tier.name.lower()
