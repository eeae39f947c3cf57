"""Puts an answer together from what the tensors of Triton's vLLM backend say, piece by piece."""

import json
import re
from enum import StrEnum
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.almost_json import NotJson, read_object
from services.reasoning.answer_text import AnswerText
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_failures import TokensUsed
from services.reasoning.token_estimate import prompt_tokens, text_tokens
from services.reasoning.tool_call_arguments import SaidCall, UnfitCalls, tool_calls
from services.reasoning.tool_names import ToolNames
from services.reasoning.triton_tensors import Piece

_PARTS: Final = re.compile(
    r'\s*\{\s*(?:"id":\s*"(?P<id>[^"\\]*)",\s*)?"name":\s*"(?P<name>[^"\\]*)",'
    r'\s*"arguments":(?P<arguments>.*)\}\s*',
    re.DOTALL,
)


class BrokenAnswer(Exception):
    """It is no answer. The text is a clause such as `ended its answer before the end`."""


class _Finish(StrEnum):
    """Why vLLM says that an answer ended, if it ended well."""

    STOP = "stop"
    LIMIT = "length"


class TritonAnswer:
    """The answer to one prompt."""

    def __init__(self, prompt: Prompt, most_tokens: int) -> None:
        """`most_tokens`: that the answer may have."""
        self._prompt: Final = prompt
        self._most_tokens: Final = most_tokens
        self._said: Final = AnswerText(stop=prompt.stop, with_calls=bool(prompt.tools))
        self._reason = ""
        self._input_tokens: int | None = None
        self._output_tokens = 0
        # Whether the server counts what it writes.
        self._counted = True
        self.begun = False

    @property
    def too_long(self) -> bool:
        """Whether the server wrote more than it may, estimates being wrong by much."""
        limit = self._most_tokens if self._counted else 8 * self._most_tokens
        return self._output_tokens > limit

    def add(self, piece: Piece) -> str:
        """Takes the next piece; the text that is certain by now."""
        self.begun = True
        counted = piece.output_tokens
        self._counted = self._counted and counted is not None
        self._output_tokens += text_tokens(piece.text) if counted is None else counted
        if piece.input_tokens is not None:
            self._input_tokens = piece.input_tokens
        self._reason = piece.finish_reason
        return self._said.feed(piece.text)

    def cut(self) -> None:
        """Ends the answer here, as if the server had done so at its limit."""
        self._reason = _Finish.LIMIT

    def finish(self) -> str:
        """The rest of the text. Raises BrokenAnswer where the answer has not come to its end."""
        if not self._reason:
            raise BrokenAnswer("ended its answer before the end")
        return self._said.finish()

    def used(self) -> TokensUsed:
        """What has been used by now: as the server counts, or by estimate."""
        estimated = prompt_tokens(self._prompt.messages, self._prompt.tools)
        read = estimated if self._input_tokens is None else self._input_tokens
        return TokensUsed(read, self._output_tokens)

    def completion(self) -> Completion:
        """The whole. Raises BrokenAnswer."""
        stop_reason = self._stop_reason()
        cut = stop_reason is StopReason.MAX_TOKENS
        try:
            calls = tool_calls(self._said_calls(cut=cut), self._prompt, cut=cut)
        except UnfitCalls as error:
            raise BrokenAnswer(str(error)) from error
        text = self._said.text
        message = conversation_pb2.Message(
            role=conversation_pb2.ROLE_ASSISTANT,
            parts=[conversation_pb2.Part(text=text)] if text or not calls else [],
            tool_calls=calls,
        )
        if calls and not cut:
            stop_reason = StopReason.TOOL_CALLS
        used = self.used()
        return Completion(message, stop_reason, used.input_tokens, used.output_tokens)

    def _stop_reason(self) -> StopReason:
        match self._reason:
            case _Finish.LIMIT:
                return StopReason.MAX_TOKENS
            case _Finish.STOP:
                return StopReason.STOP_TEXT if self._said.stopped else StopReason.END
            case _:
                raise BrokenAnswer("gave its answer up")

    def _said_calls(self, *, cut: bool) -> list[SaidCall]:
        """The calls as the model wrote them. Raises UnfitCalls.

        With `cut` the limit ended the answer: what it ended within is no call.
        """
        # Models also write names as other formats would have them.
        names = ToolNames(tool.name for tool in self._prompt.tools)
        calls: list[SaidCall] = []
        for call in self._said.calls:
            if cut and not call.finished:
                break
            calls.append(_read_call(call.text, names))
        return calls


def _read_call(text: str, names: ToolNames) -> SaidCall:
    # Arguments that are almost JSON are read on their own.
    if parts := _PARTS.fullmatch(text):
        return SaidCall(parts["id"] or "", names.meant(parts["name"]), parts["arguments"])
    try:
        written = read_object(text)
    except NotJson as error:
        raise UnfitCalls(f"wants a tool called in a text that {error}") from error
    call_id, name, arguments = (written.get(key) for key in ("id", "name", "arguments"))
    return SaidCall(
        call_id=call_id if isinstance(call_id, str) else "",
        tool=names.meant(name) if isinstance(name, str) else "",
        arguments=arguments if isinstance(arguments, str) else json.dumps(arguments or {}),
    )
