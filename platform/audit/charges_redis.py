"""The governor's charges in Redis; only read. See services/governor/counters.lua."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from audit.charges import Charge, charge_of
from meshkit.redis_store import unavailable

_TOGETHER: Final = 1000
_CALL: Final = re.compile(rb"governor:\{spend\}:call:([^/]+)/(.+)", re.DOTALL)
# What is not settled is reserved.
_SETTLED: Final = re.compile(rb"settled \d+ (\d+) ")


class RedisCharges:
    """Charges of model steps, as long as the governor remembers them."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = cast(Any, redis)

    async def exist(self, charges: Sequence[Charge]) -> Sequence[bool]:
        """Whether there is a charge under the key of each, whatever its cost."""
        names = [_name(each.task.tenant, each.key) for each in charges]
        try:
            values: list[bytes | None] = await self._redis.mget(names)
        except RedisError as error:
            raise unavailable(error) from error
        return [value is not None and _SETTLED.match(value) is not None for value in values]

    async def all(self, tenant: str) -> AsyncGenerator[Charge]:
        """Charges of tasks' steps, some of them twice; of one tenant unless that is empty."""
        cursor = 0
        while True:
            try:
                cursor, names = await self._redis.scan(
                    cursor, match=_name(tenant or "*", "*"), count=_TOGETHER
                )
                values: list[bytes | None] = await self._redis.mget(names) if names else []
            except RedisError as error:
                raise unavailable(error) from error
            for name, value in zip(cast(list[bytes], names), values, strict=True):
                call, settled = _CALL.fullmatch(name), _SETTLED.match(value or b"")
                if call is None or settled is None:  # reserved, or forgotten a moment ago
                    continue
                key = call[2].decode("utf-8", "replace")
                charge = charge_of(call[1].decode(), key, int(settled[1]))
                if charge is not None:
                    yield charge
            if not cursor:
                return


def _name(tenant: str, key: str) -> str:
    return f"governor:{{spend}}:call:{tenant}/{key}"
