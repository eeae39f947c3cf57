"""Sessions in Redis: a list of messages for each, oldest first.

    memory:{tenant}:session:SESSION                list of serialized messages
    memory:{tenant}:session:SESSION/request/ID     `digest:count`, for a day; ID is hashed

No session's name has a slash, so no two keys are one.
"""

from hashlib import sha256
from typing import Any, Final, cast

from redis.asyncio import Redis

from meshkit.redis_store import Script
from services.memory.session import Append, Context

_REMEMBER_SECONDS: Final = 24 * 60 * 60

# KEYS: messages, request. ARGV: digest, how long to remember it (0: not), the
# most messages kept, then the messages.
_APPEND: Final = """
local remember = tonumber(ARGV[2])
if remember > 0 then
  local before = redis.call('GET', KEYS[2])
  if before then
    local digest, count = string.match(before, '^(%x+):(%d+)$')
    if digest ~= ARGV[1] then return -1 end
    return tonumber(count)
  end
end
for i = 4, #ARGV do redis.call('RPUSH', KEYS[1], ARGV[i]) end
redis.call('LTRIM', KEYS[1], -tonumber(ARGV[3]), -1)
local count = redis.call('LLEN', KEYS[1])
if remember > 0 then
  redis.call('SET', KEYS[2], ARGV[1] .. ':' .. count, 'EX', remember)
end
return count
"""

# KEYS: messages. ARGV: tokens. A page at a time from the end, so that the rest
# of a long session is not even looked at.
_NEWEST: Final = """
local total = redis.call('LLEN', KEYS[1])
local room, used, kept = tonumber(ARGV[1]), 0, {}
local stop = total - 1
while stop >= 0 do
  local start = math.max(0, stop - 15)
  local page = redis.call('LRANGE', KEYS[1], start, stop)
  for i = #page, 1, -1 do
    local tokens = math.ceil(#page[i] / 4)
    if used + tokens > room then return {total, used, kept} end
    used = used + tokens
    kept[#kept + 1] = page[i]
  end
  stop = start - 1
end
return {total, used, kept}
"""


class RedisSessionStore:
    """Messages of sessions. Raises DependencyUnavailable."""

    def __init__(self, redis: Redis, *, max_messages: int) -> None:
        """Of each session the newest `max_messages` are kept."""
        self._max_messages: Final = max_messages
        self._append: Final = Script(redis, _APPEND)
        self._newest: Final = Script(redis, _NEWEST)

    async def append(self, append: Append, digest: str) -> int | None:
        """Adds the messages in one step with the note of the request id."""
        messages = _key(append.tenant, append.session)
        request = sha256(append.request_id.encode()).hexdigest()
        remember = _REMEMBER_SECONDS if append.request_id else 0
        count = await self._append.run(
            [messages, f"{messages}/request/{request}"],
            [digest, remember, self._max_messages, *append.messages],
        )
        return int(count) if count >= 0 else None

    async def newest(self, tenant: str, session: str, *, max_tokens: int) -> Context:
        """The newest messages that fit."""
        total, tokens, messages = cast(
            tuple[int, int, list[Any]],
            await self._newest.run([_key(tenant, session)], [max_tokens]),
        )
        messages.reverse()
        return Context(messages, total - len(messages), tokens)


def _key(tenant: str, session: str) -> str:
    return f"memory:{{{tenant}}}:session:{session}"
