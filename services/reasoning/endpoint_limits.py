"""What an endpoint allows: calls at a time, requests and tokens a minute, pauses it asks for."""

from collections.abc import Callable
from typing import Final, Protocol

from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import MeshError
from services.reasoning.generation import ModelCall
from services.reasoning.in_flight import InFlight
from services.reasoning.model import ModelSpec
from services.reasoning.provider_failures import Failure, provider_failure
from services.reasoning.rate_lease import RateLease
from services.reasoning.token_estimate import prompt_tokens

# What an answer is expected to take until some were seen, and how much a new one counts.
_FIRST_GUESS_TOKENS: Final = 256.0
_WEIGHT: Final = 0.05
# Where nobody knows when there is a place again.
_CROWDED_SECONDS: Final = 1.0
# Who waited for the end of a pause does not come at once with all others.
_SPREAD_SECONDS: Final = 0.5


class Slowed(Protocol):
    """Who knows whether the provider asked to be left alone."""

    @property
    def slowed_seconds(self) -> float:
        """For how long."""
        ...


class EndpointLimits:
    """The limits of one endpoint."""

    def __init__(
        self,
        spec: ModelSpec,
        lease: RateLease | None,
        places: InFlight,
        slowed: Slowed,
        *,
        counts_tokens: bool,
        patience_seconds: float,
        random: Callable[[], float],
        clock: Clock,
    ) -> None:
        """`lease`: None where the rates are not limited.

        `patience_seconds`: how long a call waits for its turn rather than be refused.
        `random`: from 0 to 1.
        """
        self._spec: Final = spec
        self._lease: Final = lease
        self._places: Final = places
        self._slowed: Final = slowed
        self._counts_tokens: Final = counts_tokens
        self._patience_seconds: Final = patience_seconds
        self._random: Final = random
        self._clock: Final = clock
        self._answer_tokens = _FIRST_GUESS_TOKENS

    def refusal(self) -> MeshError | None:
        """What `enter` would raise, by what is known here; None where it may let a call out."""
        if (slowed := self._slowed.slowed_seconds) > self._patience_seconds:
            return self._asked_for_patience(slowed)
        if self._lease and (spent := self._lease.spent_seconds) > self._patience_seconds:
            return self._spent(spent)
        return self._crowded() if self._places.full else None

    async def enter(self, call: ModelCall) -> int:
        """Lets a call out when it is its turn; it ends with `leave`.

        Returns the tokens that are set aside for it. Raises RateLimited, as a provider's
        own limit would, where its turn does not come soon enough.
        """
        patience = self._patience_seconds
        left = deadline.remaining_seconds()
        if left is not None and left < patience:
            patience = left
        if not await self._places.enter(patience):
            raise self._crowded()
        try:
            if slowed := self._slowed.slowed_seconds:
                if slowed > patience:
                    raise self._asked_for_patience(slowed)
                await self._clock.sleep(slowed + self._random() * _SPREAD_SECONDS)
            if self._lease is None:
                return 0
            tokens = self._estimate(call) if self._counts_tokens else 0
            if wait := await self._lease.take(tokens, patience):
                raise self._spent(wait)
        except BaseException:
            self._places.leave()
            raise
        return tokens

    def leave(self, tokens: int, used: tuple[int, int] | None) -> None:
        """The call is over.

        Args:
            tokens: What was set aside.
            used: Tokens of the request and of the answer; None where that is not known.
        """
        self._places.leave()
        if used is not None and tokens and self._lease is not None:
            self._lease.correct(sum(used) - tokens)
            self._answer_tokens += _WEIGHT * (used[1] - self._answer_tokens)

    def turn_back(self, tokens: int) -> None:
        """The call did not go out after all."""
        self._places.leave()
        if tokens and self._lease is not None:
            self._lease.correct(-tokens)

    async def close(self) -> None:
        """Fetches nothing more."""
        if self._lease is not None:
            await self._lease.close()

    def _estimate(self, call: ModelCall) -> int:
        most = call.prompt.max_output_tokens or call.model.max_output_tokens
        answer = min(most, round(self._answer_tokens))
        return prompt_tokens(call.prompt.messages, call.prompt.tools) + answer

    def _asked_for_patience(self, seconds: float) -> MeshError:
        return self._limited("asked to be left alone for a while", seconds)

    def _spent(self, seconds: float) -> MeshError:
        return self._limited("has no requests or tokens of this minute left", seconds)

    def _crowded(self) -> MeshError:
        return self._limited("has as many calls as it may", _CROWDED_SECONDS)

    def _limited(self, why: str, seconds: float) -> MeshError:
        return provider_failure(
            Failure.RATE_LIMITED,
            provider=self._spec.provider,
            model=self._spec.name,
            why=why,
            retry_after_seconds=max(seconds, 0.001),
        )
