"""The offline model: rules that plan tool calls and quote what the tools return.

Deterministic, without a key and without a network. It is no language model.
"""

import re
from collections.abc import AsyncGenerator, Container, Iterator, Mapping, Sequence
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.offline.answer import Answer, answer, answer_unplanned
from services.reasoning.offline.plan import Planner, Step
from services.reasoning.offline.turn import Turn, read_turn
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
        self._planner: Final = planner

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
        turn = read_turn(prompt.messages)
        steps = self._planner.plan(turn.request, before=turn.request_before, tools=prompt.tools)
        input_tokens = prompt_tokens(prompt.messages, prompt.tools)
        found = _found(steps, turn)
        # Results that no step asked for are of calls that somebody else planned.
        calls = [] if turn.results and not found else _calls(steps, turn, found)
        if calls:
            message = conversation_pb2.Message(
                role=conversation_pb2.ROLE_ASSISTANT, tool_calls=calls
            )
            output_tokens = prompt_tokens([message], ())
            return Completion(message, StopReason.TOOL_CALLS, input_tokens, output_tokens)
        answered = _answer(steps, turn, found)
        text, stop_reason = _limited(answered.text, prompt)
        message = conversation_pb2.Message(
            role=conversation_pb2.ROLE_ASSISTANT, parts=[conversation_pb2.Part(text=text)]
        )
        # What was cut off cites nothing.
        citations = [
            citation
            for number, citation in enumerate(answered.citations, start=1)
            if f"[{number}]" in text
        ]
        return Completion(message, stop_reason, input_tokens, text_tokens(text), citations)


def _calls(
    steps: Sequence[Step], turn: Turn, found: Mapping[int, conversation_pb2.ToolResult]
) -> list[conversation_pb2.ToolCall]:
    calls: list[conversation_pb2.ToolCall] = []
    for index in _next_round(steps, found):
        step = steps[index]
        call = conversation_pb2.ToolCall(call_id=_call_id(turn, index), tool=step.tool)
        call.arguments.update(step.arguments)
        calls.append(call)
    return calls


def _next_round(steps: Sequence[Step], found: Container[int]) -> Sequence[int]:
    """The steps to be called now: all that can be, up to the next that waits."""
    together: list[int] = []
    for index, step in enumerate(steps):
        if step.callable:
            together.append(index)
        if (step.waits and step.callable) or index + 1 == len(steps):
            if not any(each in found for each in together):
                return together
            together = []
    return ()


def _call_id(turn: Turn, index: int) -> str:
    """Unique in the conversation, and found again when the results are there."""
    return f"call-{turn.calls_before + index + 1}"


def _found(steps: Sequence[Step], turn: Turn) -> dict[int, conversation_pb2.ToolResult]:
    """The results by the step that asked for them."""
    by_id = {result.call_id: result for result in turn.results}
    return {
        index: by_id[_call_id(turn, index)]
        for index, step in enumerate(steps)
        if _call_id(turn, index) in by_id and by_id[_call_id(turn, index)].tool == step.tool
    }


def _answer(
    steps: Sequence[Step], turn: Turn, found: Mapping[int, conversation_pb2.ToolResult]
) -> Answer:
    if turn.results and not found:
        return answer_unplanned(turn.request, turn.results)
    return answer(steps, found, said=turn.said)


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
