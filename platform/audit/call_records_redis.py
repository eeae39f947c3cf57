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
        names = [_name(each.task.tenant, each.key) for each in calls]
        try:
            # One answer for all, as long as all are there.
            if await self._redis.exists(*names) == len(names):
                return [True] * len(names)
            return [bool(each) for each in await self._each("exists", names)]
        except RedisError as error:
            raise unavailable(error) from error

    async def finished(self, records: Sequence[CallRecord]) -> Sequence[bool]:
        """Whether each call was executed, and not only begun."""
        names = [_name(each.task.tenant, each.key) for each in records]
        try:
            return [state == b"finished" for state in await self._each("hget", names, "state")]
        except RedisError as error:
            raise unavailable(error) from error

    async def all(self, tenant: str) -> AsyncGenerator[CallRecord]:
        """Records of tasks' calls, some of them twice; of one tenant unless that is empty."""
        cursor = 0
        while True:
            try:
                cursor, names = await self._redis.scan(
                    cursor, match=_name(tenant or "*", "*"), count=_TOGETHER
                )
            except RedisError as error:
                raise unavailable(error) from error
            for name in cast(list[bytes], names):
                match = _RECORD.fullmatch(name)
                record = match and record_of(match[1].decode(), match[2].decode("utf-8", "replace"))
                if record:
                    yield record
            if not cursor:
                return

    async def _each(self, command: str, names: Sequence[str], *arguments: str) -> list[Any]:
        pipeline: Any = self._redis.pipeline(transaction=False)
        for name in names:
            getattr(pipeline, command)(name, *arguments)
        return await pipeline.execute()


def _name(tenant: str, key: str) -> str:
    return f"tool:{{{tenant}}}:call:{key}"
