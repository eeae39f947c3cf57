"""Test-only: a Generator that does with each call what a test says."""

import asyncio
from collections.abc import AsyncGenerator, Awaitable, Callable
from typing import Final

from agentmesh.common.v1.conversation_pb2 import ROLE_ASSISTANT, ROLE_USER, Message, Part
from meshkit.errors import MeshError
from services.reasoning.generation import (
    Completion,
    Generation,
    ModelCall,
    Prompt,
    Spending,
    StopReason,
)
from services.reasoning.model import Kind, ModelSpec, Tier
from services.reasoning.provider_failures import Failure, provider_failure

TEXT: Final = "All is well today."


def spec(name: str, provider: str = "scripted") -> ModelSpec:
    """A model."""
    return ModelSpec(name, provider, Kind.GENERATOR, 1000, "A model.", max_output_tokens=100)


def call_of(
    model: ModelSpec, tier: Tier = Tier.BALANCED, *, tenant: str = "acme", **spending: object
) -> ModelCall:
    """A call of a model."""
    prompt = Prompt([Message(role=ROLE_USER, parts=[Part(text="Hello")])], ())
    who = Spending(tenant, "service:test", **spending)  # pyright: ignore[reportArgumentType]
    return ModelCall(prompt, model, tier, who)


def failing(failure: Failure, model: str = "large", after: float | None = None) -> MeshError:
    """The error of a provider."""
    return provider_failure(
        failure, provider="scripted", model=model, why="failed", retry_after_seconds=after
    )


class ScriptedGenerator:
    """Answers with a fixed text, word by word in streams."""

    def __init__(self) -> None:
        self.calls: Final[list[ModelCall]] = []
        # Those that were broken off by who made them.
        self.left: Final[list[ModelCall]] = []
        # What becomes of a call before its first piece; it may wait, and raise.
        self.script: Callable[[ModelCall], Awaitable[None]] = _well
        # And after its first piece, in streams.
        self.then: Callable[[ModelCall], Awaitable[None]] = _well

    async def generate(self, call: ModelCall) -> Generation:
        """The answer."""
        self.calls.append(call)
        try:
            await self.script(call)
        except asyncio.CancelledError:
            self.left.append(call)
            raise
        return answer(call)

    async def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """The answer, word by word."""
        self.calls.append(call)
        try:
            await self.script(call)
            for number, word in enumerate(TEXT.split(" ")):
                if number == 1:
                    await self.then(call)
                yield word
        except (asyncio.CancelledError, GeneratorExit):
            self.left.append(call)
            raise
        yield answer(call)


def answer(call: ModelCall, text: str = TEXT) -> Generation:
    """What a call is answered with."""
    message = Message(role=ROLE_ASSISTANT, parts=[Part(text=text)])
    return Generation(Completion(message, StopReason.END, 3, 5), call.model, call.tier)


async def until_broken(
    stream: AsyncGenerator[str | Generation],
) -> tuple[list[str | Generation], MeshError | None]:
    """What a stream gives, and the error that ends it."""
    seen: list[str | Generation] = []
    try:
        async for update in stream:
            seen.append(update)  # noqa: PERF401 - what came before the error counts
    except MeshError as error:
        return seen, error
    return seen, None


async def _well(call: ModelCall) -> None:
    return None
