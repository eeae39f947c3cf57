"""The tool service's call records in Redis; only read. See services/tool/call_record.lua."""

import re
from collections.abc import AsyncGenerator, Sequence
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from audit.effects import Call, CallRecord, record_of
from meshkit.redis_store import unavailable

_TOGETHER: Final = 1000
_RECORD: Final = re.compile(rb"tool:\{([^}]+)\}:call:(.+)", re.DOTALL)


class RedisCallRecords:
    """Records of calls that change something."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = cast(Any, redis)

    async def exist(self, calls: Sequence[Call]) -> Sequence[bool]:
        """Whether there is a record of each."""
        try:
            pipeline: Any = self._redis.pipeline(transaction=False)
            for each in calls:
                pipeline.exists(_name(each.task.tenant, each.key))
            return [bool(found) for found in await pipeline.execute()]
        except RedisError as error:
            raise unavailable(error) from error

    async def finished(self, tenant: str) -> AsyncGenerator[CallRecord]:
        """Executed calls of tasks, some of them twice; of one tenant unless that is empty."""
        cursor = 0
        while True:
            try:
                cursor, names = await self._redis.scan(
                    cursor, match=_name(tenant or "*", "*"), count=_TOGETHER
                )
                pipeline: Any = self._redis.pipeline(transaction=False)
                for name in names:
                    pipeline.hget(name, "state")
                states: list[bytes | None] = await pipeline.execute() if names else []
            except RedisError as error:
                raise unavailable(error) from error
            for name, state in zip(cast(list[bytes], names), states, strict=True):
                match = _RECORD.fullmatch(name)
                if match is None or state != b"finished":
                    continue
                record = record_of(match[1].decode(), match[2].decode("utf-8", "replace"))
                if record is not None:
                    yield record
            if not cursor:
                return


def _name(tenant: str, key: str) -> str:
    return f"tool:{{{tenant}}}:call:{key}"
