"""Requests and tokens a minute: what an endpoint's provider allows all processes together."""

from dataclasses import dataclass
from typing import Final, Protocol

from meshkit.clock import Clock

# What may come at once after a pause: as much as these seconds bring.
BURST_SECONDS: Final = 10.0


@dataclass(frozen=True, slots=True)
class RateRules:
    """What a provider allows in a minute; None for no limit."""

    requests_per_minute: int | None = None
    tokens_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Share:
    """What a process may use of an endpoint's rates."""

    requests: int = 0
    tokens: int = 0
    # Until there is something, where there is nothing now, in seconds.
    wait_seconds: float = 0.0


class Rates(Protocol):
    """Who hands the rates out."""

    async def take(
        self, endpoint: str, rules: RateRules, *, requests: int, tokens: int, need_tokens: int
    ) -> Share:
        """At most `requests` and `tokens`, where there is anything left.

        `need_tokens` is what the next call needs at least: it is given, as a debt, where
        there is not so much, since a call may need more than ever is there at once.
        Raises DependencyUnavailable.
        """
        ...


class OwnRates:
    """Hands out to one process as if there were no other."""

    def __init__(self, clock: Clock) -> None:
        self._clock: Final = clock
        self._buckets: Final[dict[str, tuple[_Bucket, _Bucket]]] = {}

    async def take(
        self, endpoint: str, rules: RateRules, *, requests: int, tokens: int, need_tokens: int
    ) -> Share:
        """At most `requests` and `tokens`, where there is anything left."""
        now = self._clock.monotonic_seconds()
        if endpoint not in self._buckets:
            self._buckets[endpoint] = (
                _Bucket(rules.requests_per_minute, now),
                _Bucket(rules.tokens_per_minute, now),
            )
        of_requests, of_tokens = self._buckets[endpoint]
        wait = max(of_requests.wait_for(1, now), of_tokens.wait_for(1, now))
        if wait:
            return Share(wait_seconds=wait)
        return Share(of_requests.take(requests, 1), of_tokens.take(tokens, need_tokens))


class _Bucket:
    """An amount that comes back evenly; it may be overdrawn."""

    __slots__ = ("_at", "_left", "_most", "_per_second")

    def __init__(self, per_minute: int | None, now: float) -> None:
        self._per_second: Final = per_minute / 60 if per_minute else 0.0
        self._most: Final = max(1.0, self._per_second * BURST_SECONDS)
        self._left = self._most
        self._at = now

    def wait_for(self, amount: int, now: float) -> float:
        if not self._per_second:
            return 0.0
        self._left = min(self._most, self._left + (now - self._at) * self._per_second)
        self._at = now
        return max(0.0, (amount - self._left) / self._per_second)

    def take(self, wanted: int, needed: int) -> int:
        if not self._per_second:
            return 0
        taken = max(needed, min(wanted, int(self._left)))
        self._left -= taken
        return taken
