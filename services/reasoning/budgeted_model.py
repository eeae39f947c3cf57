"""Asks the cost governor before a call, and tells it after."""

import asyncio
from collections.abc import AsyncGenerator, Callable
from contextlib import aclosing
from dataclasses import replace
from typing import Final

import grpc

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import (
    AlreadySettled,
    BudgetExhausted,
    DependencyUnavailable,
    MeshError,
    ModelNotFound,
    NoPrice,
)
from meshkit.ids import Ids
from services.reasoning.allowance import Allowance
from services.reasoning.errors import budget_exhausted, throttled
from services.reasoning.generation import Generation, Generator, ModelCall
from services.reasoning.governor import Admission, Decision, Governor, Settlement, Verdict
from services.reasoning.grant import Grant
from services.reasoning.lease_pool import LeasePool
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.output_limit import no_longer
from services.reasoning.price_list import PriceList
from services.reasoning.provider_failures import TokensUsed, used_by
from services.reasoning.settlement_queue import SettlementQueue
from services.reasoning.token_estimate import bytes_tokens, prompt_tokens, text_tokens

UNGOVERNED: Final = (
    "The cost governor could not be reached: the call was made on the local allowance"
    " and is settled later."
)
SETTLED_LATER: Final = (
    "The cost governor did not answer after the call: its cost is by the price list"
    " and is settled later."
)
_GOVERNOR: Final = "governor"
_UNREACHABLE: Final = (grpc.StatusCode.UNAVAILABLE, grpc.StatusCode.DEADLINE_EXCEEDED)
# A call that failed with no more than this left was given too little time to tell anything
# about the governor: as much is kept back from it, for answering.
_NO_TIME_SECONDS: Final = 0.05
_NOTHING: Final = TokensUsed()
# Of one call; the governor takes no more.
_MOST_TOKENS: Final = 1_000_000_000


class BudgetedModel:
    """A Generator that spends only what it may.

    Most calls are admitted in memory, under a lease, and settled in batches a little
    later. A governor that cannot be reached does not stop it: calls go on under what is
    leased and against a small local allowance, say so, and are settled later. Only
    those of a tenant that wants it so are refused then.
    """

    def __init__(
        self,
        inner: Generator,
        governor: Governor,
        leases: LeasePool,
        settlements: SettlementQueue,
        *,
        first_of: Callable[[Tier], ModelSpec | None],
        prices: PriceList,
        allowance: Allowance,
        fails_closed: Callable[[str], bool],
        may_use: Callable[[str, Tier], bool],
        ask_again_seconds: float,
        clock: Clock,
        ids: Ids,
    ) -> None:
        """`first_of`: a tier's model, for calls that are sent to a cheaper one.

        `may_use`: whether a tenant may use a tier.
        `fails_closed`: whether a tenant's calls need a governor that answers.
        `ask_again_seconds`: how long a governor that could not be reached is left alone.
        """
        self._inner: Final = inner
        self._governor: Final = governor
        self._leases: Final = leases
        self._settlements: Final = settlements
        self._first_of: Final = first_of
        self._prices: Final = prices
        self._allowance: Final = allowance
        self._fails_closed: Final = fails_closed
        self._may_use: Final = may_use
        self._ask_again_seconds: Final = ask_again_seconds
        self._clock: Final = clock
        self._ids: Final = ids
        self._leave_alone_until = clock.monotonic_seconds()

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call where a budget allows it. One that is broken off is charged for its input.

        Raises BudgetExhausted, RateLimited, ModelNotFound where no model is left
        that the tenant may use, and what the call itself raises.
        """
        grant = await self._admit(call)
        try:
            generation = await self._inner.generate(grant.call)
        except asyncio.CancelledError as error:
            # Nobody waits for the answer any more; that its model reads is paid all the same.
            read = TokensUsed(grant.input_tokens)
            self._broke_off(grant, read + (used_by(error) or _NOTHING))
            raise
        except BaseException as error:
            self._broke_off(grant, used_by(error))
            raise
        return await self._charged(grant, generation)

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """As `generate`. A stream that is left early is charged for what it had produced."""
        grant = await self._admit(call)
        produced = 0
        used: TokensUsed | None = None
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
        except asyncio.CancelledError as error:
            used = TokensUsed(grant.input_tokens) + (used_by(error) or _NOTHING)
            # An earlier attempt is known better than by the pieces that came of it.
            used = replace(used, output_tokens=max(used.output_tokens, bytes_tokens(produced)))
            raise
        except MeshError as error:
            used = used_by(error)
            raise
        finally:
            if not ended:
                if used is None and produced:
                    used = TokensUsed(grant.input_tokens, bytes_tokens(produced))
                self._broke_off(grant, used)

    async def _admit(self, call: ModelCall) -> Grant:
        spending = call.spending
        may_repeat = bool(spending.key)
        if not may_repeat:
            spending = replace(spending, key=self._ids.new())
        input_tokens = prompt_tokens(call.prompt.messages, call.prompt.tools)
        limit = call.prompt.max_output_tokens or call.model.max_output_tokens
        most_output_tokens = min(limit, call.model.max_output_tokens)
        admission = Admission(
            spending, call.model.name, call.tier, input_tokens, most_output_tokens
        )
        if call.prompt.output_schema:
            # The model may be asked twice, and read its first answer the second time.
            input_tokens += text_tokens(call.prompt.output_schema)
            admission = replace(
                admission,
                input_tokens=2 * input_tokens + most_output_tokens,
                max_output_tokens=2 * most_output_tokens,
            )
        # The policy may have changed since what is leased was leased.
        if not self._settlements.full and self._may_use(spending.tenant, call.tier):
            claim = self._leases.claim(admission, may_repeat=may_repeat)
            if claim is not None:
                version = claim.lease.terms.price_version
                return Grant(call, spending, input_tokens, version, True, claim=claim)
        verdict = await self._ask(admission)
        if call.spare and (verdict is None or verdict.decision is not Decision.ALLOW):
            self._settlements.release(spending)
            raise BudgetExhausted("No budget has room for a second call of the same.")
        if verdict is None:
            return self._on_allowance(call, admission)
        if verdict.decision is Decision.DENY:
            raise budget_exhausted(verdict)
        if verdict.decision is Decision.THROTTLE:
            raise throttled(verdict)
        if verdict.key and verdict.key != spending.key:
            spending = replace(spending, key=verdict.key)
        degradations: tuple[str, ...] = ()
        if verdict.decision is Decision.DEGRADE and verdict.degrade_to is not None:
            call = replace(call, spending=spending)
            call, degradations = self._degraded(call, verdict.degrade_to, verdict.explanation)
            if verdict.ask_again and not degradations:
                raise budget_exhausted(verdict)
            # Nothing is reserved for a free model; one that it is sent to may be none.
            if verdict.ask_again or (degradations and not verdict.reserved_micros):
                grant = await self._admit(call)
                return replace(grant, degradations=(*degradations, *grant.degradations))
        price = self._prices.present.get(call.model.name)
        # Both: the governor charges, and by a price book that may be a newer one.
        free = verdict.reserved_micros == 0 and price is not None and price.free
        if degradations and not (price and price.free):
            # What is reserved is the most of the model that was asked for.
            call = replace(call, prompt=no_longer(call.prompt, call.model, most_output_tokens))
        version = verdict.price_version
        return Grant(call, spending, input_tokens, version, True, free, degradations=degradations)

    async def _ask(self, admission: Admission) -> Verdict | None:
        """The governor's verdict; None where it has none, or cannot be reached.

        Raises DeadlineExceeded where it was the caller's own time that ran out.
        """
        if self._clock.monotonic_seconds() < self._leave_alone_until:
            return None
        try:
            return await self._governor.admit(admission)
        except asyncio.CancelledError:
            # It may have been reserved all the same.
            self._settlements.release(admission.spending)
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
                self._settlements.release(admission.spending)
                raise
            # What the governor itself says of one call says nothing about the next.
            if error.metadata.get("dependency") == _GOVERNOR:
                self._leave_alone_until = self._clock.monotonic_seconds() + self._ask_again_seconds
            return None

    def _on_allowance(self, call: ModelCall, admission: Admission) -> Grant:
        tenant = admission.spending.tenant
        if self._fails_closed(tenant):
            raise self._unreachable("this tenant's calls need its consent")
        degradations: tuple[str, ...] = (UNGOVERNED,)
        if not self._may_use(tenant, call.tier):
            call, sentences = self._permitted(replace(call, spending=admission.spending))
            degradations = (*sentences, UNGOVERNED)
        price = self._prices.present.get(call.model.name)
        if price is None:
            raise NoPrice(
                f"The model {call.model.name!r} has no price.", metadata={"model": call.model.name}
            )
        cost = price.cost_micros(admission.input_tokens, admission.max_output_tokens)
        if self._settlements.full or not self._allowance.take(tenant, cost):
            raise self._unreachable("what may be spent without it is spent")
        return Grant(
            call,
            admission.spending,
            admission.input_tokens,
            self._prices.version,
            governed=False,
            free=cost == 0,
            allowed_micros=cost,
            degradations=degradations,
        )

    def _permitted(self, call: ModelCall) -> tuple[ModelCall, tuple[str, ...]]:
        """`call` in the highest tier that its tenant may use, as the governor would send it."""
        tenant = call.spending.tenant
        usable = [each for each in Tier if each < call.tier and self._may_use(tenant, each)]
        if not usable:
            raise self._unreachable(f"this tenant may not use the {_said(call.tier)} tier")
        most = min(call.prompt.max_output_tokens or _MOST_TOKENS, call.model.max_output_tokens)
        why = f"The tenant {tenant} may not use that one."
        call, sentences = self._degraded(call, max(usable), why)
        return replace(call, prompt=no_longer(call.prompt, call.model, most)), sentences

    def _unreachable(self, so: str) -> DependencyUnavailable:
        return DependencyUnavailable(
            f"The cost governor cannot be reached, and {so}.",
            metadata={"dependency": _GOVERNOR},
            retry_after_seconds=self._ask_again_seconds,
        )

    def _degraded(
        self, call: ModelCall, tier: Tier, explanation: str
    ) -> tuple[ModelCall, tuple[str, ...]]:
        model = self._first_of(tier)
        if model is None and not self._may_use(call.spending.tenant, call.tier):
            self._settlements.release(call.spending)
            raise ModelNotFound(
                f"No model of the tier {_said(tier)} can be called."
                + (f" {explanation}" if explanation else ""),
                metadata={"tier": _said(tier)},
            )
        if model is None or tier >= call.tier:
            return call, ()
        sentence = f"Answered by the {_said(tier)} tier instead of the {_said(call.tier)} one"
        sentence += f": {explanation}" if explanation else "."
        return replace(call, model=model, tier=tier), (sentence,)

    async def _charged(self, grant: Grant, generation: Generation) -> Generation:
        """`generation` with its cost.

        Under a lease the price list tells it, as it does for what cannot be settled now.
        Any other call that may cost something waits for what the governor says.
        """
        completion = generation.completion
        settlement = self._settlement(
            grant,
            TokensUsed(
                completion.input_tokens,
                completion.output_tokens,
                completion.cached_input_tokens,
            ),
        )
        degradations = (*grant.degradations, *generation.degradations)
        if grant.claim is not None or not grant.governed or self._costs_nothing(grant):
            cost = self._settle_later(grant, settlement)
        else:
            try:
                with self._settlements.kept(settlement):
                    cost = await self._governor.settle(settlement)
                self._leases.note(settlement.spending, cost)
            except AlreadySettled:
                # Another call with the same key was made at the same time. This one was paid
                # besides: it is settled under a key of its own.
                cost = self._settle_later(grant, settlement)
            except MeshError:
                # Whatever it is: the model is paid, and its answer is not to be paid twice.
                cost = self._settle_later(grant, settlement)
                degradations = (*degradations, SETTLED_LATER)
            except BaseException:
                self._settle_later(grant, settlement)
                raise
        return Generation(completion, generation.model, generation.tier, cost, degradations)

    def _costs_nothing(self, grant: Grant) -> bool:
        """Whether it is known what a call cost, since it can cost nothing."""
        return grant.free and not self._settlements.full

    def _settle_later(self, grant: Grant, settlement: Settlement) -> int:
        """Has it settled whatever becomes of this process; what it costs by the price list."""
        cost = 0 if grant.free else self._cost_by_list(settlement)
        self._settlements.settle(settlement)
        return cost

    def _cost_by_list(self, settlement: Settlement) -> int:
        version = settlement.price_version or self._prices.version
        price = self._prices.versions.get(version, self._prices.present).get(settlement.model)
        if price is None:
            return 0
        return price.cost_micros(
            settlement.input_tokens, settlement.output_tokens, settlement.cached_input_tokens
        )

    def _broke_off(self, grant: Grant, used: TokensUsed | None) -> None:
        """Ends a call that failed: what it used all the same is paid."""
        if used is None:
            self._give_back(grant)
        else:
            self._settle_later(grant, self._settlement(grant, used))

    def _give_back(self, grant: Grant) -> None:
        if grant.claim is not None:
            self._leases.give_back(grant.claim)
        elif grant.governed:
            self._settlements.release(grant.spending)
        else:
            self._allowance.give_back(grant.spending.tenant, grant.allowed_micros)

    def _settlement(self, grant: Grant, used: TokensUsed) -> Settlement:
        """A call that is over, to be settled; one under a lease is taken out of it."""
        claim = grant.claim
        # Whatever a provider says: what the governor does not take is charged to nobody.
        input_tokens, output_tokens = _count(used.input_tokens), _count(used.output_tokens)
        cached_tokens = min(_count(used.cached_input_tokens), input_tokens)
        taken = 0
        if claim is not None:
            cost = claim.price.cost_micros(input_tokens, output_tokens, cached_tokens)
            taken = self._leases.spend(grant.spending, claim, cost)
        return Settlement(
            grant.spending,
            grant.call.model.name,
            input_tokens,
            output_tokens,
            grant.call.tier,
            grant.price_version,
            claim.lease.terms.lease if claim else "",
            taken,
            cached_input_tokens=cached_tokens,
            call_time_ms=int(self._clock.now().timestamp() * 1000),
        )


def _count(tokens: int) -> int:
    return min(max(tokens, 0), _MOST_TOKENS)


def _said(tier: Tier) -> str:
    return tier.name.lower()
