"""Counts tokens where no tokeniser is at hand: four bytes of text are one token.

Deterministic, and close to what tokenisers make of English. Providers that
count for themselves are believed instead.
"""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb

BYTES_PER_TOKEN: Final = 4


def text_tokens(text: str) -> int:
    """Tokens of a text, rounded up."""
    return bytes_tokens(len(text.encode()))


def bytes_tokens(size: int) -> int:
    """Tokens of so many bytes of text, rounded up."""
    return -(-size // BYTES_PER_TOKEN)


def prompt_tokens(
    messages: Sequence[conversation_pb2.Message], tools: Sequence[pb.ToolSpec]
) -> int:
    """Tokens of a conversation and the tools offered with it, by their size as encoded."""
    size = sum(message.ByteSize() for message in messages) + sum(tool.ByteSize() for tool in tools)
    return bytes_tokens(size)
