"""Test-only: a provider that says what it is told, and can be held up."""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from agentmesh.common.v1.conversation_pb2 import ROLE_ASSISTANT, Message, Part
from meshkit.errors import MeshError
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.token_estimate import prompt_tokens, text_tokens

PAID: Final = ModelSpec(
    name="paid",
    provider="scripted",
    kind=Kind.GENERATOR,
    context_tokens=1000,
    max_output_tokens=100,
    description="A model that costs something.",
)


class ScriptedProvider:
    """Answers every prompt with the same words."""

    def __init__(self, text: str = "All is well today.") -> None:
        self.text = text
        self.failure: MeshError | None = None
        # Streams stop after their first word until this is set.
        self.go_on: Final = asyncio.Event()
        self.go_on.set()
        self.closed_streams = 0
        # Calls that are held up.
        self.waiting = 0
        # Said to be a part of the input, whether or not that is as long.
        self.cached_input_tokens = 0

    async def complete(self, prompt: Prompt) -> Completion:
        """The scripted answer."""
        self.waiting += 1
        await self.go_on.wait()
        self.waiting -= 1
        if self.failure is not None:
            raise self.failure
        message = Message(role=ROLE_ASSISTANT, parts=[Part(text=self.text)])
        tokens = prompt_tokens(prompt.messages, prompt.tools)
        return Completion(
            message,
            StopReason.END,
            tokens,
            text_tokens(self.text),
            cached_input_tokens=self.cached_input_tokens,
        )

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The scripted answer, word by word."""
        try:
            for word in self.text.split(" "):
                yield word
                await self.go_on.wait()
            yield await self.complete(prompt)
        finally:
            self.closed_streams += 1
