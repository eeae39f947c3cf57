"""One connection to Redis that many share: commands go out at once, answers come in order.

redis-py takes a connection out of its pool for each pipeline, and about 100
microseconds of CPU; this takes 10. It is for what is asked all the time.
"""

import asyncio
import ssl
from collections import deque
from collections.abc import Sequence
from types import TracebackType
from typing import Any, Final, Self, cast

import hiredis
from redis.asyncio import Redis, SSLConnection
from redis.exceptions import NoScriptError, ResponseError

from meshkit.errors import DependencyUnavailable, QueueFull, ShuttingDown
from meshkit.redis_store import unavailable
from meshkit.time_limit import within

Command = Sequence[str | bytes | int]

_CONNECT_SECONDS: Final = 2.0
_ANSWER_SECONDS: Final = 5.0
_MAX_UNANSWERED: Final = 4096
# Between attempts on a connection that breaks.
_PAUSES_SECONDS: Final = (0.02, 0.1)


class RedisLine:
    """Asks Redis over one connection, made at first use. An async context manager."""

    def __init__(self, redis: Redis) -> None:
        """`redis` says where the server is and who asks; its own connections are left alone."""
        pool: Any = redis.connection_pool
        self._options: Final[dict[str, Any]] = pool.connection_kwargs
        self._tls: Final[bool] = issubclass(pool.connection_class, SSLConnection)
        self._connecting: Final = asyncio.Lock()
        self._connection: _Connection | None = None
        self._closed = False

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        """The answers to commands that may be repeated, in order.

        They are sent again where the connection breaks, at most twice. Raises
        NoScriptError and ResponseError for the first that Redis refuses, when
        all are answered; DependencyUnavailable and QueueFull.
        """
        for pause in (*_PAUSES_SECONDS, None):
            try:
                return await (await self._connected()).ask(commands)
            except OSError as error:
                if pause is None or isinstance(error, TimeoutError):
                    raise unavailable(error) from error
                await asyncio.sleep(pause)
        raise AssertionError("unreachable")

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self,
        exc_type: type[BaseException] | None,
        exc: BaseException | None,
        tb: TracebackType | None,
    ) -> None:
        self._closed = True
        if self._connection is not None:
            self._connection.close()

    async def _connected(self) -> "_Connection":
        if self._connection is None or self._connection.broken:
            async with self._connecting:
                if self._connection is None or self._connection.broken:
                    self._connection = await self._connect()
        return self._connection

    async def _connect(self) -> "_Connection":
        if self._closed:
            raise ShuttingDown("The service is shutting down.")
        options, loop = self._options, asyncio.get_running_loop()
        # Reading certificates is not the server's time.
        tls = self._tls_context() if self._tls else None
        try:
            with within(_CONNECT_SECONDS):
                if path := options.get("path"):
                    _, connection = await loop.create_unix_connection(_Connection, path)
                else:
                    _, connection = await loop.create_connection(
                        _Connection,
                        options.get("host", "localhost"),
                        options.get("port", 6379),
                        ssl=tls,
                    )
        except TimeoutError:
            raise TimeoutError(f"no connection within {_CONNECT_SECONDS:g} s") from None
        greeting: list[Command] = []
        if password := options.get("password"):
            greeting.append(["AUTH", *filter(None, [options.get("username")]), password])
        if database := options.get("db"):
            greeting.append(["SELECT", database])
        try:
            await connection.ask(greeting)
        except ResponseError as error:
            connection.close()
            raise DependencyUnavailable(
                f"Failed to reach Redis: {error}", metadata={"dependency": "redis"}
            ) from error
        except BaseException:
            connection.close()
            raise
        return connection

    def _tls_context(self) -> ssl.SSLContext:
        # The library reads the many settings of TLS; this connection itself is never opened.
        unopened: Any = SSLConnection(**self._options)
        return cast(ssl.SSLContext, unopened.ssl_context.get())


class _Connection(asyncio.Protocol):
    def __init__(self) -> None:
        self.broken = False
        self._reader: Final[Any] = cast(Any, hiredis).Reader()
        self._unanswered: Final[deque[asyncio.Future[Any]]] = deque()
        self._transport: asyncio.Transport | None = None

    async def ask(self, commands: Sequence[Command]) -> list[Any]:
        if self._transport is None or self.broken:
            raise ConnectionResetError("The connection is gone.")
        if len(self._unanswered) >= _MAX_UNANSWERED:
            raise QueueFull(
                f"{len(self._unanswered)} commands wait for Redis already.", retry_after_seconds=0.1
            )
        if not commands:
            return []
        loop = asyncio.get_running_loop()
        pack: Any = cast(Any, hiredis).pack_command
        futures = [loop.create_future() for _ in commands]
        self._unanswered.extend(futures)
        self._transport.write(b"".join([pack(tuple(command)) for command in commands]))
        # Nobody behind a command that is not answered is answered either.
        late = loop.call_later(_ANSWER_SECONDS, self._break, TimeoutError("No answer in time."))
        try:
            # In order: who has the last has all.
            answers = [await future for future in futures]
        finally:
            late.cancel()
        for answer in answers:
            if isinstance(answer, hiredis.ReplyError):
                text = str(answer)
                raise NoScriptError(text) if text.startswith("NOSCRIPT") else ResponseError(text)
        return answers

    def close(self) -> None:
        self._break(ConnectionAbortedError("The connection was closed."))

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        self._transport = cast(asyncio.Transport, transport)

    def data_received(self, data: bytes) -> None:
        self._reader.feed(data)
        while (answer := self._reader.gets()) is not False:
            future = self._unanswered.popleft()
            if not future.done():  # else whoever asked was cancelled
                future.set_result(answer)

    def connection_lost(self, exc: Exception | None) -> None:
        self._break(ConnectionResetError(str(exc or "Redis closed the connection.")))

    def _break(self, error: OSError) -> None:
        self.broken = True
        if self._transport is not None:
            self._transport.abort()
        while self._unanswered:
            future = self._unanswered.popleft()
            if not future.done():
                future.set_exception(error)
                # Of several that one caller waits for, it hears of the first.
                future.exception()
