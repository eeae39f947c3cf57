"""Streams to callers from outside end with the credential by which they were begun.

The gateway looks at credentials when a call begins. Most calls are over before that could change;
a stream that somebody reads for an hour is not.
"""

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable, Generator
from contextlib import AbstractContextManager, contextmanager, nullcontext, suppress
from datetime import UTC, datetime
from typing import Any, Final

from meshkit.clock import Clock
from meshkit.constants import KEY_CALLER
from meshkit.errors import MeshError, Unauthenticated
from meshkit.identity import Identity

# Between two looks at the keys by which streams are open. No look, where there are none.
_LOOK_EVERY_SECONDS: Final = 2.0
# Clocks differ: what the gateway has just let in does not end at once by the clock of a service.
_SKEW_SECONDS: Final = 10.0

# The tenant and the id of an API key.
_Key = tuple[str, str]
# When the API key of that tenant and id was revoked; None for one that is in force.
# Raises MeshError where nobody can tell.
Revoked = Callable[[str, str], Awaitable[datetime | None]]


class OpenStreams:
    """Those of one process. Safe to share within one event loop."""

    def __init__(self, revoked: Revoked, clock: Clock) -> None:
        self._revoked: Final = revoked
        self._clock: Final = clock
        # By the tenant and id of the key by which they were begun.
        self._by_key: Final[dict[_Key, set[_Stream]]] = {}
        self._some: Final = asyncio.Event()

    def open(
        self, answers: AsyncIterator[Any], who: Identity, expires: float | None
    ) -> AbstractContextManager[AsyncIterator[Any]]:
        """The answers to that caller; Unauthenticated once its credential is good no more.

        `expires`: when the credential does, in seconds since the epoch.
        """
        by_key = who.caller.startswith(KEY_CALLER)
        if not by_key and expires is None:
            return nullcontext(answers)
        key = (who.tenant, who.caller.removeprefix(KEY_CALLER)) if by_key else None
        return self._bounded(_Stream(answers), key, expires)

    async def follow_keys(self) -> None:
        """Ends the streams of keys that are revoked, until cancelled.

        While nobody can tell whether they are, streams go on.
        """
        while True:
            await self._some.wait()
            with suppress(MeshError):
                await self._look()
            await self._clock.sleep(_LOOK_EVERY_SECONDS)

    async def _look(self) -> None:
        for key in list(self._by_key):
            time_revoked = await self._revoked(*key)
            if time_revoked is not None:
                for stream in self._by_key.get(key, ()):
                    stream.cut(_ended("revoked", f"API key was revoked at {_at(time_revoked)}"))

    @contextmanager
    def _bounded(
        self, stream: "_Stream", key: _Key | None, expires: float | None
    ) -> Generator[AsyncIterator[Any]]:
        end = self._end(stream, expires) if expires is not None else None
        if key:
            self._by_key.setdefault(key, set()).add(stream)
            self._some.set()
        try:
            yield stream
        finally:
            if end:
                end.cancel()
            if key:
                self._forget(key, stream)

    def _end(self, stream: "_Stream", expires: float) -> asyncio.TimerHandle:
        left = expires + _SKEW_SECONDS - self._clock.now().timestamp()

        def end() -> None:
            at = _at(datetime.fromtimestamp(expires, UTC))
            stream.cut(_ended("expired", f"credential of this call expired at {at}"))

        return asyncio.get_running_loop().call_later(left, end)

    def _forget(self, key: _Key, stream: "_Stream") -> None:
        streams = self._by_key[key]
        streams.discard(stream)
        if not streams:
            del self._by_key[key]
        if not self._by_key:
            self._some.clear()


class _Stream:
    """Answers that can be cut off."""

    def __init__(self, answers: AsyncIterator[Any]) -> None:
        self._answers: Final = answers
        self._cut: Unauthenticated | None = None
        # Who waits for the next answer. What is cut off while an answer is sent ends after that: a
        # send that is cancelled would leave the caller without a word.
        self._waiting: asyncio.Task[Any] | None = None

    def __aiter__(self) -> AsyncIterator[Any]:
        return self

    async def __anext__(self) -> Any:
        if self._cut is not None:
            raise self._cut
        self._waiting = task = asyncio.current_task()
        try:
            return await anext(self._answers)
        except asyncio.CancelledError:
            # Somebody else may have cancelled it as well: the caller, who has gone.
            if self._cut is None or task is None or task.uncancel():
                raise
            raise self._cut from None
        finally:
            self._waiting = None

    def cut(self, why: Unauthenticated) -> None:
        """Ends it with that error, unless it was cut off before."""
        if self._cut is None:
            self._cut = why
            if self._waiting is not None:
                self._waiting.cancel()


def _ended(credential: str, what: str) -> Unauthenticated:
    return Unauthenticated(
        f"The {what}: go on with another one.", metadata={"credential": credential}
    )


def _at(moment: datetime) -> str:
    return f"{moment:%Y-%m-%d %H:%M:%S} UTC"
