"""Identifiers: 26 characters, digits and lower-case letters, safe in any name and subject."""

import hashlib
import secrets
import time
from collections.abc import Callable
from typing import Final, Protocol

# Crockford's alphabet sorts like the numbers it writes; RFC 4648's does not.
_ALPHABET: Final = "0123456789abcdefghjkmnpqrstvwxyz"
# Two characters at a time: identifiers are made on the hot path.
_PAIRS: Final = tuple(first + second for first in _ALPHABET for second in _ALPHABET)
_SHIFTS: Final = tuple(range(120, -1, -10))


class Ids(Protocol):
    """Where identifiers come from."""

    def new(self) -> str:
        """A new identifier. Later ones sort behind those of earlier milliseconds."""
        ...

    def stable(self, *parts: str) -> str:
        """The identifier of these parts: the same for the same parts, for ever."""
        ...


class RandomIds:
    """48 bits of time in milliseconds, then 80 random bits."""

    def __init__(
        self,
        now_seconds: Callable[[], float] = time.time,
        random_bytes: Callable[[int], bytes] = secrets.token_bytes,
    ) -> None:
        self._now_seconds = now_seconds
        self._random_bytes = random_bytes

    def new(self) -> str:
        """A new identifier. Later ones sort behind those of earlier milliseconds."""
        milliseconds = int(self._now_seconds() * 1000)
        return _encode(milliseconds.to_bytes(6, "big") + self._random_bytes(10))

    def stable(self, *parts: str) -> str:
        """The identifier of these parts: the same for the same parts, for ever."""
        return stable_id(*parts)


def stable_id(*parts: str) -> str:
    """The first 128 bits of the SHA-256 of these parts, each preceded by its length."""
    digest = hashlib.sha256()
    for part in parts:
        encoded = part.encode()
        # Without the length, ("ab", "c") and ("a", "bc") would be one.
        digest.update(len(encoded).to_bytes(8, "big") + encoded)
    return _encode(digest.digest()[:16])


def _encode(sixteen: bytes) -> str:
    # 26 characters hold 130 bits, so that the first two are always 0.
    number = int.from_bytes(sixteen, "big")
    return "".join([_PAIRS[number >> shift & 1023] for shift in _SHIFTS])
