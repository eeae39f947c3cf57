"""Messages that gRPC has packed, and those that nobody can read."""

import zlib
from typing import Final

import grpc

IDENTITY: Final = "identity"
# What is read, by gRPC's names, and the window bits by which zlib reads it.
PACKINGS: Final = {IDENTITY: 0, "gzip": 31, "deflate": 15}


class UnreadableMessage(Exception):
    """A message that cannot be read, or is too large to be."""

    def __init__(self, text: str, code: grpc.StatusCode = grpc.StatusCode.INTERNAL) -> None:
        """What the call ends with for it."""
        super().__init__(text)
        self.code: Final = code


def too_large(size_bytes: int, most_bytes: int) -> str:
    """What gRPC says of a message that is."""
    return f"Received message larger than max ({size_bytes} vs. {most_bytes})"


def unpack(name: str, content: bytes, most_bytes: int) -> bytes:
    """What was packed by the packing of that name. Raises UnreadableMessage."""
    if name == IDENTITY:
        raise UnreadableMessage("A packed message in a call that names no packing.")
    reader = zlib.decompressobj(PACKINGS[name])
    try:
        unpacked = reader.decompress(content, most_bytes + 1)
    except zlib.error:
        raise UnreadableMessage("A packed message that cannot be unpacked.") from None
    if len(unpacked) > most_bytes:
        raise UnreadableMessage(
            too_large(len(unpacked), most_bytes), grpc.StatusCode.RESOURCE_EXHAUSTED
        )
    if not reader.eof or reader.unused_data:
        raise UnreadableMessage("A packed message that is not complete.")
    return unpacked
