"""Page tokens: where the next page starts, bound to the query that made them."""

import base64
import binascii
import hashlib
import re
from typing import Final

from google.protobuf.message import Message as Proto

from meshkit.errors import InvalidField, InvalidPageToken

_DIGEST_BYTES: Final = 8
_FOREIGN: Final = "page_token is not one that this method gave."


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


def decode(query: bytes, token: str, *, shape: str = ".+") -> str | None:
    """The position in `token`; None for the first page.

    Args:
        query: What `query_of` gives for the request that has the token.
        token: The request's `page_token`.
        shape: A regular expression that every position of this method fits.

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
        raise InvalidPageToken(_FOREIGN) from error
    if content[:_DIGEST_BYTES] != query:
        raise InvalidPageToken(
            "page_token was given for another request: keep all other fields as they were."
        )
    if not re.fullmatch(shape, position, re.DOTALL):
        raise InvalidPageToken(_FOREIGN)
    return position


def page_size(value: int, *, default: int, limit: int = 1000) -> int:
    """The number of items of a page; InvalidField below 0, at most `limit`."""
    if value < 0:
        raise InvalidField("page_size", "must not be negative")
    return min(value or default, limit)
