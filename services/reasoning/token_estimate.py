"""Counts tokens where no tokeniser is at hand: four bytes of text are one token.

Deterministic, and close to what tokenisers make of English. Providers that
count for themselves are believed instead.
"""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb

BYTES_PER_TOKEN: Final = 4
# What providers count for a large image, about: it has many more bytes than that.
MOST_IMAGE_TOKENS: Final = 1600
_MOST_IMAGE_BYTES: Final = MOST_IMAGE_TOKENS * BYTES_PER_TOKEN


def text_tokens(text: str) -> int:
    """Tokens of a text, rounded up."""
    return bytes_tokens(len(text.encode()))


def bytes_tokens(size: int) -> int:
    """Tokens of so many bytes of text, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def prompt_tokens(
    messages: Sequence[conversation_pb2.Message], tools: Sequence[pb.ToolSpec]
) -> int:
    """Tokens of a conversation and the tools offered with it, by their size as encoded.

    No image counts for more than a large one, however many bytes it has.
    """
    size = sum(tool.ByteSize() for tool in tools)
    for message in messages:
        of_message = message.ByteSize()
        size += of_message
        if of_message > _MOST_IMAGE_BYTES:
            size -= _beyond_images(message)
    return bytes_tokens(size)


def _beyond_images(message: conversation_pb2.Message) -> int:
    """The bytes of its images that count for nothing."""
    images = (part.image.ByteSize() for part in message.parts if part.HasField("image"))
    return sum(max(0, size - _MOST_IMAGE_BYTES) for size in images)
