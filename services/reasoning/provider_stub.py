"""The stub model: always the same two moves, for measuring what a mesh costs around a model.

It calls the tool `stub` once, and then it answers. There only where a setting asks for it.
"""

import asyncio
from collections.abc import AsyncGenerator
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.token_estimate import prompt_tokens, text_tokens

STUB: Final = ModelSpec(
    name="stub",
    provider="stub",
    kind=Kind.GENERATOR,
    context_tokens=1_000_000,
    max_output_tokens=256,
    description=(
        "Calls the tool `stub` once and answers with a fixed text, after a set time."
        " For measuring: it is no language model."
    ),
)
# What a model says and what it tells its tool, in bytes: those of the published comparisons.
_BYTES: Final = 200
_ANSWER: Final = "The stub model has nothing to say. ".ljust(_BYTES, "a")
_ARGUMENT: Final = "For the stub tool. ".ljust(_BYTES, "q")


class StubProvider:
    """Two moves a conversation: a call of the tool `stub`, then a text."""

    def __init__(self, *, latency_seconds: float) -> None:
        """`latency_seconds`: how long each move takes; 0 for none."""
        self._latency_seconds: Final = latency_seconds
        call = conversation_pb2.ToolCall(call_id="call-1", tool="stub")
        call.arguments.update({"text": _ARGUMENT})
        self._call: Final = conversation_pb2.Message(
            role=conversation_pb2.ROLE_ASSISTANT, tool_calls=[call]
        )
        self._call_tokens: Final = prompt_tokens([self._call], ())
        self._text: Final = conversation_pb2.Message(
            role=conversation_pb2.ROLE_ASSISTANT, parts=[conversation_pb2.Part(text=_ANSWER)]
        )
        self._text_tokens: Final = text_tokens(_ANSWER)

    async def complete(self, prompt: Prompt) -> Completion:
        """The tool call, or the text where the conversation has a tool's result."""
        if self._latency_seconds:
            await asyncio.sleep(self._latency_seconds)
        input_tokens = prompt_tokens(prompt.messages, prompt.tools)
        if any(message.HasField("tool_result") for message in prompt.messages):
            return Completion(self._text, StopReason.END, input_tokens, self._text_tokens)
        return Completion(self._call, StopReason.TOOL_CALLS, input_tokens, self._call_tokens)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The text in one piece, then as a whole. The tool call comes as a whole only."""
        completion = await self.complete(prompt)
        for part in completion.message.parts:
            yield part.text
        yield completion
