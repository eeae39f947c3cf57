"""The last answers of models, in Redis: one key an answer, under its tenant."""

from typing import Final

from redis.exceptions import RedisError

from meshkit.redis_line import RedisLine
from meshkit.redis_store import unavailable
from services.reasoning.last_answers import LastAnswer

_TIME_BYTES: Final = 8


class RedisAnswers:
    """Keeps answers until they are too old."""

    def __init__(self, line: RedisLine) -> None:
        self._line: Final = line

    async def put(self, tenant: str, digest: str, answer: LastAnswer, *, seconds: int) -> None:
        """Keeps an answer for so long."""
        value = answer.given_at.to_bytes(_TIME_BYTES, "big") + answer.response
        try:
            await self._line.ask([("SET", _key(tenant, digest), value, "EX", seconds)])
        except RedisError as error:
            raise unavailable(error) from error

    async def get(self, tenant: str, digest: str) -> LastAnswer | None:
        """The answer; None where there is none."""
        try:
            (value,) = await self._line.ask([("GET", _key(tenant, digest))])
        except RedisError as error:
            raise unavailable(error) from error
        if value is None:
            return None
        return LastAnswer(value[_TIME_BYTES:], int.from_bytes(value[:_TIME_BYTES], "big"))


def _key(tenant: str, digest: str) -> str:
    return f"last_answer:{{{tenant}}}:{digest}"
