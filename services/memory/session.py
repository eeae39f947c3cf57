"""Sessions: conversations, message by message."""

from collections.abc import Sequence
from dataclasses import dataclass
from hashlib import sha256
from typing import Final, Protocol

from meshkit.errors import RequestIdReused


@dataclass(frozen=True, slots=True)
class Append:
    """Messages to add to a session, oldest first, each in the bytes that are stored."""

    tenant: str
    session: str
    messages: tuple[bytes, ...]
    # Empty for a call that is not to be recognised again.
    request_id: str


@dataclass(frozen=True, slots=True)
class Context:
    """The newest messages of a session, oldest first."""

    messages: Sequence[bytes]
    omitted_count: int
    tokens: int


class SessionStore(Protocol):
    """Keeps the messages of sessions."""

    async def append(self, append: Append, digest: str) -> int | None:
        """Adds the messages, once per request id; answers how many there are then.

        None where the request id was used with another digest.
        """
        ...

    async def newest(self, tenant: str, session: str, *, max_tokens: int) -> Context:
        """The newest messages that fit, four bytes to a token; none of an unknown session."""
        ...


class Sessions:
    """The tenants' sessions."""

    def __init__(self, store: SessionStore) -> None:
        self._store: Final = store

    async def append(self, append: Append) -> int:
        """Adds messages; answers how many the session has. Raises RequestIdReused."""
        digest = sha256()
        for message in append.messages:
            # Where one ends and the next begins is part of what was said.
            digest.update(len(message).to_bytes(8, "big") + message)
        count = await self._store.append(append, digest.hexdigest())
        if count is None:
            raise RequestIdReused(
                f"request_id {append.request_id!r} was used for other messages of session "
                f"{append.session!r}; use a new one for each call."
            )
        return count

    async def context(self, tenant: str, session: str, *, max_tokens: int) -> Context:
        """The part of the session that fits."""
        return await self._store.newest(tenant, session, max_tokens=max_tokens)
