"""The offline model: rules that plan tool calls and quote what the tools return.

Deterministic, without a key and without a network. It is no language model.
"""

import re
from collections.abc import AsyncGenerator, Iterator
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.respond import Responder
from services.reasoning.token_estimate import BYTES_PER_TOKEN, prompt_tokens, text_tokens

OFFLINE: Final = ModelSpec(
    name="offline",
    provider="offline",
    kind=Kind.GENERATOR,
    # The largest request there may be, and an answer.
    context_tokens=(2 * 1024 * 1024) // BYTES_PER_TOKEN + 4096,
    max_output_tokens=4096,
    description=(
        "Rules that plan tool calls and answer by quoting what the tools return."
        " It is no language model. Needs no key and no network."
    ),
)
_WORD_WITH_GAP: Final = re.compile(r"\s*\S+\s*")


class OfflineProvider:
    """Answers by rules. The same conversation gets the same answer."""

    def __init__(self, planner: Planner) -> None:
        self._responder: Final = Responder(planner)

    async def complete(self, prompt: Prompt) -> Completion:
        """The tool calls to make, or the answer."""
        return self._complete(prompt)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The answer word by word, then as a whole. Tool calls come as a whole only."""
        completion = self._complete(prompt)
        for part in completion.message.parts:
            for word in _words(part.text):
                yield word
        yield completion

    def _complete(self, prompt: Prompt) -> Completion:
        reply = self._responder.respond(prompt.messages, prompt.tools, prompt.output_schema)
        input_tokens = prompt_tokens(prompt.messages, prompt.tools)
        if reply.calls:
            message = conversation_pb2.Message(
                role=conversation_pb2.ROLE_ASSISTANT, tool_calls=reply.calls
            )
            output_tokens = prompt_tokens([message], ())
            return Completion(message, StopReason.TOOL_CALLS, input_tokens, output_tokens)
        text, stop_reason = _limited(reply.text, prompt)
        if reply.refused:
            stop_reason = StopReason.REFUSED
        message = conversation_pb2.Message(
            role=conversation_pb2.ROLE_ASSISTANT, parts=[conversation_pb2.Part(text=text)]
        )
        citations = reply.citations
        if not prompt.output_schema:
            # What was cut off cites nothing.
            citations = [
                citation
                for number, citation in enumerate(citations, start=1)
                if f"[{number}]" in text
            ]
        return Completion(message, stop_reason, input_tokens, text_tokens(text), citations)


def _limited(text: str, prompt: Prompt) -> tuple[str, StopReason]:
    """`text` as far as the prompt's stop texts and its limit of tokens let it."""
    reason = StopReason.END
    stops = [position for each in prompt.stop if (position := text.find(each)) >= 0]
    if stops:
        text, reason = text[: min(stops)], StopReason.STOP_TEXT
    limit = min(prompt.max_output_tokens or OFFLINE.max_output_tokens, OFFLINE.max_output_tokens)
    encoded = text.encode()
    if len(encoded) > limit * BYTES_PER_TOKEN:
        text = encoded[: limit * BYTES_PER_TOKEN].decode("utf-8", "ignore")
        reason = StopReason.MAX_TOKENS
    return text, reason


def _words(text: str) -> Iterator[str]:
    for match in _WORD_WITH_GAP.finditer(text):
        yield match[0]
