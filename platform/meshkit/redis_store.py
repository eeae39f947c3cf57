"""Redis: the connection, its health, and scripts."""

import time
from collections.abc import Sequence
from typing import Any, Final, cast

from redis.asyncio import BlockingConnectionPool, Connection, Redis
from redis.asyncio.retry import Retry
from redis.backoff import ExponentialWithJitterBackoff
from redis.exceptions import ConnectionError as RedisConnectionError
from redis.exceptions import NoScriptError, RedisError
from redis.exceptions import TimeoutError as RedisTimeoutError

from meshkit.errors import DependencyUnavailable

_MAX_CONNECTIONS: Final = 32
_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_PING_EVERY_SECONDS: Final = 3.0


def connect(url: str) -> Redis:
    """A client with a bounded pool. It connects at first use; close it with `aclose`.

    A broken connection is tried again twice, and so is one that was not made in
    time; a command that took too long is not, since it may have been done.
    """
    pool: BlockingConnectionPool = cast(Any, BlockingConnectionPool).from_url(
        url,
        connection_class=_Connection,
        max_connections=_MAX_CONNECTIONS,
        timeout=_ANSWER_SECONDS,
        socket_connect_timeout=_CONNECT_SECONDS,
        socket_timeout=_ANSWER_SECONDS,
        socket_keepalive=True,
        retry=Retry(
            ExponentialWithJitterBackoff(base=0.02, cap=0.2),
            2,
            supported_errors=(RedisConnectionError,),
        ),
        retry_on_timeout=False,
    )
    return Redis.from_pool(pool)


class _Connection(Connection):
    """Nothing was asked yet by one that was not made in time: it is a broken one.

    A process that stood still finds that its time to connect is over.
    """

    async def _connect(self) -> None:
        try:
            await super()._connect()
        except TimeoutError as error:
            raise RedisConnectionError("Timeout connecting to server") from error


class RedisDependency:
    """Health of Redis: asks every three seconds at most, and remembers in between."""

    def __init__(self, redis: Redis) -> None:
        self._redis: Final = redis
        self._asked_at = float("-inf")

    @property
    def name(self) -> str:
        """What health checks call it."""
        return "redis"

    async def check(self) -> None:
        """Raises DependencyUnavailable where Redis does not answer."""
        if time.monotonic() - self._asked_at < _PING_EVERY_SECONDS:
            return
        try:
            await cast(Any, self._redis).ping()
        except (RedisError, OSError) as error:
            raise unavailable(error) from error
        self._asked_at = time.monotonic()


class Script:
    """A script that runs atomically inside Redis. It is sent once, and then named by its hash."""

    def __init__(self, redis: Redis, text: str) -> None:
        self._redis: Final = redis
        self._text: Final = text
        self._digest = ""

    async def run(
        self, keys: Sequence[str], arguments: Sequence[str | bytes | int | float] = ()
    ) -> Any:
        """What the script returns; DependencyUnavailable where Redis cannot be reached."""
        client = cast(Any, self._redis)
        try:
            if not self._digest:
                self._digest = await client.script_load(self._text)
            try:
                return await client.evalsha(self._digest, len(keys), *keys, *arguments)
            except NoScriptError:  # Redis was restarted or flushed
                self._digest = await client.script_load(self._text)
                return await client.evalsha(self._digest, len(keys), *keys, *arguments)
        except (RedisConnectionError, RedisTimeoutError) as error:
            raise unavailable(error) from error


def unavailable(error: BaseException) -> DependencyUnavailable:
    """What a failure to reach Redis means to callers."""
    return DependencyUnavailable(
        f"Failed to reach Redis: {error}", metadata={"dependency": "redis"}
    )
