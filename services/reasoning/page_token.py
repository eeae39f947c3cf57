"""Tokens of ListModels' pages: where the next page begins, and for which tier."""

import base64
import binascii

from meshkit.errors import InvalidPageToken


def encode(offset: int, tier: int) -> str:
    """The token of the page that begins at `offset`."""
    return base64.urlsafe_b64encode(f"models/{tier}/{offset}".encode()).decode()


def decode(token: str, tier: int) -> int:
    """Where the page begins; 0 for the empty token. InvalidPageToken for any that is not ours."""
    if not token:
        return 0
    try:
        method, of_tier, offset = base64.urlsafe_b64decode(token.encode()).decode().split("/")
        if method == "models" and int(of_tier) == tier and int(offset) >= 0:
            return int(offset)
    except (binascii.Error, ValueError):
        pass
    raise InvalidPageToken(
        "The page token was not made by ListModels for this tier; begin again without one."
    )
