"""Requests and tokens a minute in Redis, for all processes that call an endpoint."""

import hashlib
from pathlib import Path
from typing import Final

from redis.exceptions import NoScriptError, RedisError

from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable
from services.reasoning.endpoint_rates import BURST_SECONDS, RateRules, Share

_SCRIPT: Final = Path(__file__).with_name("endpoint_rates.lua")


class RedisRates:
    """Hands out to all processes together."""

    def __init__(self, line: RedisLine) -> None:
        self._line: Final = line
        self._script: Final = _SCRIPT.read_text("utf-8")
        # Redis names a script so; not for secrecy.
        self._sha: Final = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    async def take(
        self, endpoint: str, rules: RateRules, *, requests: int, tokens: int, need_tokens: int
    ) -> Share:
        """At most `requests` and `tokens`, where there is anything left."""
        asked = (
            *("EVALSHA", self._sha, 1, f"endpoint:{{{endpoint}}}:rates"),
            f"{(rules.requests_per_minute or 0) / 60:.6f}",
            f"{(rules.tokens_per_minute or 0) / 60:.6f}",
            *(f"{BURST_SECONDS:g}", requests, tokens, need_tokens),
        )
        try:
            try:
                (answer,) = await self._line.ask([asked])
            except NoScriptError:
                await self._line.ask([("SCRIPT", "LOAD", self._script)])
                (answer,) = await self._line.ask([asked])
        except RedisError as error:
            raise unavailable(error) from error
        given_requests, given_tokens, wait_ms = answer
        return Share(given_requests, given_tokens, wait_ms / 1000)
