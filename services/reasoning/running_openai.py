"""Test-only: a server that speaks as OpenAI does, and who calls it."""

from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from services.reasoning.generation import Completion, Prompt, Provider
from services.reasoning.upstream_openai import (
    KEY,
    OpenAIFormat,
    OpenAIServer,
    OpenAIUpstream,
    openai_server,
)

SCHEMA: Final = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


async def streamed_by(provider: Provider, prompt: Prompt) -> tuple[list[str], Completion]:
    """The pieces of the text, and the whole."""
    *pieces, whole = [update async for update in provider.stream(prompt)]
    assert isinstance(whole, Completion)
    return [each for each in pieces if isinstance(each, str)], whole


@asynccontextmanager
async def openai_and_client(
    *, key: str = KEY, refused: Sequence[str] = ()
) -> AsyncGenerator[tuple[OpenAIServer, OpenAIUpstream]]:
    """One that wants this key and refuses these parameters."""
    async with openai_server(OpenAIFormat(key=key, refused=refused)) as server:
        yield server, OpenAIUpstream(server)
