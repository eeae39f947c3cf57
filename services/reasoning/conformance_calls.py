"""Test-only: how the suite of all providers asks them."""

from collections.abc import Awaitable, Callable
from contextlib import aclosing
from typing import Final

import pytest

from services.reasoning.generation import Completion, Prompt, Provider
from services.reasoning.prompts import text_of
from services.reasoning.upstream import (
    Ability,
    Upstream,
)

SECRET_WORDS: Final = "the-hidden-words-of-a-prompt"
# As a whole, or put together from its pieces.
Ask = Callable[[Provider, Prompt], Awaitable[Completion]]


async def whole(provider: Provider, prompt: Prompt) -> Completion:
    """The completion in one piece."""
    return await provider.complete(prompt)


async def streamed(provider: Provider, prompt: Prompt) -> Completion:
    """The completion, whose text must be that of the pieces."""
    pieces: list[str] = []
    async with aclosing(provider.stream(prompt)) as updates:
        async for update in updates:
            if isinstance(update, Completion):
                assert "".join(pieces) == text_of(update)
                return update
            assert update
            pieces.append(update)
    raise AssertionError("no completion came")


def needs(upstream: Upstream, ability: Ability) -> None:
    """Skips what the provider's format has not."""
    if ability not in upstream.abilities:
        pytest.skip(f"{upstream.name}: its published format has no {ability}")
