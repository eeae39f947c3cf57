"""What a process holds of an endpoint's rates, so that no call waits for Redis."""

import asyncio
from typing import Final

from meshkit.clock import Clock
from meshkit.errors import DependencyUnavailable, QueueFull, ShuttingDown
from meshkit.time_limit import within
from services.reasoning.endpoint_rates import BURST_SECONDS, OwnRates, RateRules, Rates, Share

_SECONDS_PER_MINUTE: Final = 60.0
# As much is fetched at a time as was used in this time,
_COVER_SECONDS: Final = 0.5
# and the next when less than this part is left.
_LOW: Final = 0.3
# What is fetched at a time grows this much at most, so that a rush is not taken for the rule.
_GROWTH: Final = 2.0
# The most that one process fetches at a time, of what may come at once.
_MOST_OF_BURST: Final = 0.25
_ANSWER_SECONDS: Final = 0.25
_AWAY_SECONDS: Final = 1.0


class RateLease:
    """The part of one endpoint's rates that this process may use without asking."""

    def __init__(self, endpoint: str, rules: RateRules, rates: Rates, clock: Clock) -> None:
        """`rates` of all processes; while these are away this one goes by the whole rates."""
        self._endpoint: Final = endpoint
        self._rules: Final = rules
        self._rates: Final = rates
        self._own: Final = OwnRates(clock)
        self._clock: Final = clock
        self._limits_requests: Final = rules.requests_per_minute is not None
        self._limits_tokens: Final = rules.tokens_per_minute is not None
        self._requests = 0
        self._tokens = 0
        # Of the last share.
        self._low_requests = 0.0
        self._low_tokens = 0.0
        self._used_requests = 0
        self._used_tokens = 0
        self._fetched_at = clock.monotonic_seconds()
        self._nothing_until = 0.0
        self._ask_again_at = 0.0
        # Of those that wait for more.
        self._wanted_requests = 0
        self._wanted_tokens = 0
        self._fetching: asyncio.Task[None] | None = None

    @property
    def spent_seconds(self) -> float:
        """For how long there is nothing left, as far as this process knows."""
        if not self._nothing_until or self._covers(0):
            return 0.0
        return max(0.0, self._nothing_until - self._clock.monotonic_seconds())

    async def take(self, tokens: int, patience_seconds: float) -> float:
        """Takes a request with so many tokens.

        Returns 0 where it did, else after how many seconds there may be something: longer
        than the caller has patience for.
        """
        if not self._covers(tokens):
            wait = await self._wait(tokens, patience_seconds)
            if wait:
                return wait
        self._requests -= 1
        self._tokens -= tokens
        self._used_requests += 1
        self._used_tokens += tokens
        if (self._limits_requests and self._requests < self._low_requests) or (
            self._limits_tokens and self._tokens < self._low_tokens
        ):
            self._fetch(0)
        return 0.0

    def correct(self, tokens: int) -> None:
        """So many tokens more were used than taken; negative for fewer."""
        self._tokens -= tokens

    async def close(self) -> None:
        """Fetches no more."""
        if self._fetching is not None:
            self._fetching.cancel()
            await asyncio.wait((self._fetching,))

    def _covers(self, tokens: int) -> bool:
        return (not self._limits_requests or self._requests >= 1) and (
            not self._limits_tokens or self._tokens >= tokens
        )

    async def _wait(self, tokens: int, patience_seconds: float) -> float:
        give_up = self._clock.monotonic_seconds() + patience_seconds
        self._wanted_requests += 1
        self._wanted_tokens += tokens
        try:
            while not self._covers(tokens):
                now = self._clock.monotonic_seconds()
                wait = self._nothing_until - now
                if wait <= 0:
                    fetching = self._fetch(tokens)
                    await asyncio.wait((fetching,))
                    fetching.result()
                elif now + wait > give_up:
                    return wait
                else:
                    await self._clock.sleep(wait)
        finally:
            self._wanted_requests -= 1
            self._wanted_tokens -= tokens
        return 0.0

    def _fetch(self, tokens: int) -> asyncio.Task[None]:
        """Fetches more, at least `tokens`; who comes meanwhile waits for the same."""
        if self._fetching is None:
            self._fetching = asyncio.create_task(self._fetched(tokens))
            self._fetching.add_done_callback(self._done)
        return self._fetching

    def _done(self, _: asyncio.Task[None]) -> None:
        self._fetching = None

    async def _fetched(self, tokens: int) -> None:
        now = self._clock.monotonic_seconds()
        passed = max(now - self._fetched_at, 0.001)
        if passed > BURST_SECONDS:
            # It was set aside long ago: others had it meanwhile.
            self._requests, self._tokens = min(self._requests, 0), min(self._tokens, 0)
        share = min(_GROWTH, _COVER_SECONDS / passed)
        requests = self._wanted_requests + round(self._used_requests * share)
        more = self._wanted_tokens + round(self._used_tokens * share)
        given = await self._ask(
            max(1, min(requests, _most(self._rules.requests_per_minute))),
            min(more, _most(self._rules.tokens_per_minute)),
            max(0, tokens - self._tokens),
        )
        self._fetched_at = now
        self._used_requests = self._used_tokens = 0
        self._nothing_until = (
            self._clock.monotonic_seconds() + given.wait_seconds if given.wait_seconds else 0.0
        )
        self._requests += given.requests
        self._tokens += given.tokens
        self._low_requests = given.requests * _LOW
        self._low_tokens = given.tokens * _LOW

    async def _ask(self, requests: int, tokens: int, need_tokens: int) -> Share:
        now = self._clock.monotonic_seconds()
        if now >= self._ask_again_at:
            try:
                with within(_ANSWER_SECONDS):
                    return await self._rates.take(
                        self._endpoint,
                        self._rules,
                        requests=requests,
                        tokens=tokens,
                        need_tokens=need_tokens,
                    )
            except (DependencyUnavailable, QueueFull, ShuttingDown, TimeoutError):
                self._ask_again_at = self._clock.monotonic_seconds() + _AWAY_SECONDS
        return await self._own.take(
            self._endpoint, self._rules, requests=requests, tokens=tokens, need_tokens=need_tokens
        )


def _most(per_minute: int | None) -> int:
    if per_minute is None:
        return 0
    return max(1, int(per_minute / _SECONDS_PER_MINUTE * BURST_SECONDS * _MOST_OF_BURST))
