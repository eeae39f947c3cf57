"""Page tokens: where the next page starts, bound to the query that made them."""

import base64
import binascii
import hashlib
from typing import Final

from google.protobuf.message import Message as Proto

from meshkit.errors import InvalidField, InvalidPageToken

_DIGEST_BYTES: Final = 8


def query_of(request: Proto) -> bytes:
    """What a token is bound to: everything in the request but the page itself."""
    bare = type(request)()
    bare.CopyFrom(request)
    bare.ClearField("page_size")
    bare.ClearField("page_token")
    content = bare.DESCRIPTOR.full_name.encode() + bare.SerializeToString(deterministic=True)
    return hashlib.sha256(content).digest()[:_DIGEST_BYTES]


def encode(query: bytes, position: str) -> str:
    """The token of the page that begins after `position`."""
    return base64.urlsafe_b64encode(query + position.encode()).decode().rstrip("=")


def decode(query: bytes, token: str) -> str | None:
    """The position in `token`; None for the first page.

    Raises:
        InvalidPageToken: It was not made by `encode` with this query.
    """
    if not token:
        return None
    try:
        content = base64.b64decode(
            token.encode() + b"=" * (-len(token) % 4), altchars=b"-_", validate=True
        )
        position = content[_DIGEST_BYTES:].decode()
    except (binascii.Error, UnicodeError) as error:
        raise InvalidPageToken("page_token is not one that this method gave.") from error
    if content[:_DIGEST_BYTES] != query:
        raise InvalidPageToken(
            "page_token was given for another request: keep all other fields as they were."
        )
    return position


def page_size(value: int, *, default: int, limit: int = 1000) -> int:
    """The number of items of a page; InvalidField below 0, at most `limit`."""
    if value < 0:
        raise InvalidField("page_size", "must not be negative")
    return min(value or default, limit)
