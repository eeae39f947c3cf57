"""API keys as text, `amk_<id>_<secret>`, and what is kept of them."""

import base64
import hashlib
import hmac
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Final

PREFIX: Final = "amk_"
_SECRET_BYTES: Final = 32
_ENDING: Final = 4
_ID: Final = r"[a-z0-9]{8,40}"
_TEXT: Final = re.compile(rf"amk_({_ID})_([A-Za-z0-9_-]{{43}})")


def is_key_id(text: str) -> bool:
    """Whether `text` may be the id of a key, as its name ends."""
    return re.fullmatch(_ID, text) is not None


class MalformedApiKey(ValueError):
    """A text is no API key. Says nothing of the text, which may hold a secret."""


@dataclass(frozen=True, slots=True)
class ApiKeyText:
    """A key as its caller has it."""

    # Part of the key's name, and no secret.
    key_id: str
    # 256 random bits in 43 characters of base64url. Never logged, never stored.
    secret: str = field(repr=False)

    @classmethod
    def make(
        cls, key_id: str, random_bytes: Callable[[int], bytes] = secrets.token_bytes
    ) -> "ApiKeyText":
        """A new key of that id."""
        encoded = base64.urlsafe_b64encode(random_bytes(_SECRET_BYTES))
        return cls(key_id, encoded.decode().rstrip("="))

    @classmethod
    def parse(cls, text: str) -> "ApiKeyText":
        """Reads a key; MalformedApiKey where `text` is none."""
        match = _TEXT.fullmatch(text)
        if match is None:
            raise MalformedApiKey(
                f"An API key is {PREFIX}, an id of lower-case letters and digits, _ and 43 more"
                " characters, all without blanks."
            )
        return cls(*match.groups())

    @property
    def text(self) -> str:
        """What a caller sends."""
        return f"{PREFIX}{self.key_id}_{self.secret}"

    @property
    def ending(self) -> str:
        """Its last characters, for people to tell it from others."""
        return self.secret[-_ENDING:]

    @property
    def digest(self) -> bytes:
        """What is kept of the secret: its SHA-256.

        Slow hashes, and salts, protect secrets that can be guessed. Among 256 random
        bits nobody searches, and a fast one is made for every call.
        """
        return hashlib.sha256(self.secret.encode()).digest()

    def has_digest(self, digest: bytes) -> bool:
        """Whether `digest` is this key's; takes as long whatever the answer."""
        return hmac.compare_digest(self.digest, digest)
