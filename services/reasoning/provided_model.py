"""Sends a call to the provider that serves its model."""

from collections.abc import AsyncGenerator, Mapping
from contextlib import aclosing
from typing import Final

from services.reasoning.generation import Completion, Generation, ModelCall, Provider


class ProvidedModel:
    """The innermost Generator: no budget, no cache, no fallback."""

    def __init__(self, providers: Mapping[str, Provider]) -> None:
        """`providers` by the name of the model; every callable one must be among them."""
        self._providers: Final = providers

    async def generate(self, call: ModelCall) -> Generation:
        """The model's answer, without its cost. Raises ProviderFailed."""
        completion = await self._providers[call.model.name].complete(call.prompt)
        return Generation(completion, call.model, call.tier)

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """The text in pieces, then the whole answer. Raises ProviderFailed."""
        stream = self._providers[call.model.name].stream(call.prompt)
        async with aclosing(stream) as updates:
            async for update in updates:
                if isinstance(update, Completion):
                    yield Generation(update, call.model, call.tier)
                else:
                    yield update
