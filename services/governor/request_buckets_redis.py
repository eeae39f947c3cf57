"""Buckets of requests in Redis, one for each tenant, changed by one script."""

import hashlib
from pathlib import Path
from typing import Final

from redis.exceptions import NoScriptError, RedisError

from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable

_SCRIPT: Final = Path(__file__).with_name("request_buckets.lua")


class RedisRequestBuckets:
    """The buckets of all tenants."""

    def __init__(self, line: RedisLine) -> None:
        self._line: Final = line
        self._script: Final = _SCRIPT.read_text("utf-8")
        # Redis names a script so; not for secrecy.
        self._sha: Final = hashlib.sha1(self._script.encode(), usedforsecurity=False).hexdigest()

    async def take(self, tenant: str, *, per_second: float, burst: int) -> bool:
        """Whether there was a token. Raises DependencyUnavailable."""
        asked = ("EVALSHA", self._sha, 1, f"requests:{{{tenant}}}", f"{per_second:.6f}", burst)
        try:
            try:
                (taken,) = await self._line.ask([asked])
            except NoScriptError:
                await self._line.ask([("SCRIPT", "LOAD", self._script)])
                (taken,) = await self._line.ask([asked])
        except RedisError as error:
            raise unavailable(error) from error
        return taken == 1
