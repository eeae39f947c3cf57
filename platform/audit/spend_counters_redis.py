"""The governor's counters in Redis; only read. See services/governor/counters.lua."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, cast

from redis.asyncio import Redis
from redis.exceptions import RedisError

from audit.spend import Counted, CounterKey, Overdue, Standing, counter_key
from meshkit.redis_store import unavailable

_PREFIX: Final = "governor:{spend}:"
_TOGETHER: Final = 1000
# More at one moment would keep Redis from everything else for too long.
_MOST_RESERVATIONS: Final = 100_000
# ARGV: the most reservations to look at, the ids of counters. The answer: spent, reserved and
# held of each counter, how many reservations there are, of each the call, when it expires
# (ms), and how much it is of, and the time by which they expire (s). Counters of another
# era are left out: the governor believes none of them.
_STANDING: Final = """
local prefix, held, listed = KEYS[1], {}, {}
local count = redis.call('ZCARD', prefix .. 'expiry')
if count > tonumber(ARGV[1]) then return {false, count, {}, '0'} end
local calls = redis.call('ZRANGE', prefix .. 'expiry', 0, -1, 'WITHSCORES')
for i = 1, #calls, 2 do
  local stored = redis.call('GET', prefix .. 'call:' .. calls[i])
  local micros, ids
  if stored then micros, ids = string.match(stored, '^reserved (%d+) %d+ %d+ %d %S+ (.*)$') end
  if micros then
    listed[#listed + 1] = {calls[i], calls[i + 1], micros}
    for id in string.gmatch(ids, '%S+') do held[id] = (held[id] or 0) + micros end
  end
end
local counters = {}
local era = string.match(redis.call('GET', prefix .. 'journal') or '', '^%d+')
for i = 2, #ARGV do
  local stored = redis.call('HMGET', prefix .. ARGV[i], 'spent', 'reserved', 'written', 'era')
  if stored[1] and (not era or stored[4] == era) then
    counters[i - 1] = {
      stored[1], stored[2], string.format('%.0f', held[ARGV[i]] or 0), stored[3] or 0,
    }
  else
    counters[i - 1] = {}
  end
end
return {counters, count, listed, redis.call('TIME')[1]}
"""


class RedisSpendCounters:
    """What is spent and reserved."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = cast(Any, redis)

    async def keys(self, tenant: str) -> list[CounterKey]:
        """The counters there are; of one tenant unless that is empty."""
        found: set[CounterKey] = set()
        cursor = 0
        while True:
            try:
                cursor, names = await self._redis.scan(
                    cursor, match=f"{_PREFIX}*", count=_TOGETHER, _type="hash"
                )
            except RedisError as error:
                raise unavailable(error) from error
            keys = [counter_key(name.decode().removeprefix(_PREFIX)) for name in names]
            found.update(key for key in keys if key and tenant in ("", key.tenant))
            if not cursor:
                return sorted(found)

    async def standing(self, keys: Sequence[CounterKey], patience: timedelta) -> Standing | None:
        """Where these stand at one moment; None where there are too many reservations to see.

        Reservations that expired longer ago than `patience` are listed. They expire by the
        clock of Redis.
        """
        names = [key.name for key in keys]
        try:
            counters, count, listed, now_seconds = await self._redis.eval(
                _STANDING, 1, _PREFIX, _MOST_RESERVATIONS, *names
            )
        except RedisError as error:
            raise unavailable(error) from error
        if counters is None:
            return None
        return Standing(
            {
                key: Counted(*map(int, each))
                for key, each in zip(keys, counters, strict=True)
                if each
            },
            [
                _overdue(call, expires, micros)
                for call, expires, micros in listed
                if float(expires) < (int(now_seconds) - patience.total_seconds()) * 1000
            ],
            count,
        )


def _overdue(call: bytes, expires: bytes, micros: bytes) -> Overdue:
    tenant, _, key = call.decode("utf-8", "replace").partition("/")
    expired_at = datetime.fromtimestamp(0, UTC) + timedelta(milliseconds=float(expires))
    return Overdue(tenant, key, expired_at, int(micros))
