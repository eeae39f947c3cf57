"""An answer of chat completions, whole or in chunks, as a Completion."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_failures import TokensUsed
from services.reasoning.token_estimate import prompt_tokens, text_tokens
from services.reasoning.tool_call_arguments import SaidCall, UnfitCalls, tool_calls
from services.reasoning.tool_names import ToolNames

_STOPS: Final = {
    "stop": StopReason.END,
    "length": StopReason.MAX_TOKENS,
    "tool_calls": StopReason.TOOL_CALLS,
    "function_call": StopReason.TOOL_CALLS,
    "content_filter": StopReason.REFUSED,
}
# More are refused when they are read, in any case.
_MOST_CALLS: Final = 128
# More is not a count of tokens.
_MOST_TOKENS: Final = 1_000_000_000
# No tokeniser packs more into a token for long.
_MOST_BYTES_PER_TOKEN: Final = 16
_SLACK_BYTES: Final = 4096


class BrokenAnswer(ValueError):
    """The answer is none. The text is a clause."""


@dataclass(slots=True)
class _Call:
    call_id: str = ""
    tool: str = ""
    arguments: str = ""


class OpenAIAnswer:
    """One answer, as much of it as has come."""

    def __init__(self, prompt: Prompt, names: ToolNames, *, most_output_tokens: int) -> None:
        self._prompt: Final = prompt
        self._names: Final = names
        self._most_bytes: Final = most_output_tokens * _MOST_BYTES_PER_TOKEN + _SLACK_BYTES
        self._text: Final[list[str]] = []
        self._bytes = 0
        self._refusal = ""
        self._calls: Final[list[_Call]] = []
        # By the numbers that the server gives them.
        self._numbered: Final[dict[int, _Call]] = {}
        self._finish = ""
        self._stop_text = False
        self._usage: dict[str, Any] = {}
        self._cut: StopReason | None = None

    @property
    def too_long(self) -> bool:
        """Whether it says more than it was allowed to: the server does not stop by itself."""
        return self._bytes > self._most_bytes

    def add_whole(self, content: object) -> str:
        """Takes an answer that came whole; its text. Raises BrokenAnswer."""
        return self._add(_object(content), "message")

    def add_chunk(self, content: object) -> str:
        """Takes a chunk; the text in it. Raises BrokenAnswer."""
        return self._add(_object(content), "delta")

    def cut(self, reason: StopReason, text: str | None = None) -> None:
        """Ends the answer here, with its text as it is, or with `text` alone."""
        if text is not None:
            self._text[:] = [text]
        self._calls.clear()
        self._cut = reason

    def completion(self) -> Completion:
        """The answer. Raises BrokenAnswer where it did not come to its end."""
        stop = self._stop()
        message = conversation_pb2.Message(role=conversation_pb2.ROLE_ASSISTANT)
        text = "".join(self._text) or self._refusal
        if text:
            message.parts.add(text=text)
        if self._calls:
            message.tool_calls.extend(self._tool_calls(stop))
        used = self.used()
        return Completion(
            message,
            stop,
            used.input_tokens,
            used.output_tokens,
            cached_input_tokens=used.cached_input_tokens,
        )

    def used(self) -> TokensUsed:
        """What has been used by now: as the server counts, or by estimate."""
        input_tokens = _count(self._usage, "prompt_tokens")
        if input_tokens is None:
            input_tokens = prompt_tokens(self._prompt.messages, self._prompt.tools)
        output_tokens = _count(self._usage, "completion_tokens")
        if output_tokens is None:
            said = ("".join(self._text), self._refusal, *(each.arguments for each in self._calls))
            output_tokens = sum(map(text_tokens, said))
        details = _object_or_empty(self._usage.get("prompt_tokens_details"))
        cached = min(_count(details, "cached_tokens") or 0, input_tokens)
        return TokensUsed(input_tokens, output_tokens, cached)

    def _tool_calls(self, stop: StopReason) -> Sequence[conversation_pb2.ToolCall]:
        said = [
            SaidCall(each.call_id, self._names.meant(each.tool), each.arguments)
            for each in self._calls
        ]
        try:
            return tool_calls(said, self._prompt, cut=stop is StopReason.MAX_TOKENS)
        except UnfitCalls as error:
            raise BrokenAnswer(str(error)) from None

    def _add(self, content: dict[str, Any], part: str) -> str:
        usage = content.get("usage")
        if isinstance(usage, dict):
            self._usage = cast(dict[str, Any], usage)
        choices = _list(content.get("choices"))
        if not choices:
            if part == "message":
                raise BrokenAnswer("sent an answer without a choice")
            return ""
        choice = _object(choices[0])
        finish = choice.get("finish_reason")
        if isinstance(finish, str) and finish:
            self._finish = finish
        # vLLM says which text it stopped at.
        self._stop_text = self._stop_text or isinstance(choice.get("stop_reason"), str)
        said = _object_or_empty(choice.get(part))
        for index, call in enumerate(_list(said.get("tool_calls"))):
            self._add_call(_object(call), index if part == "message" else None)
        refusal = said.get("refusal")
        if isinstance(refusal, str):
            self._refusal += refusal
        text = _said(said.get("content"))
        self._text.append(text)
        self._bytes += len(text.encode())
        return text

    def _add_call(self, said: dict[str, Any], index: int | None) -> None:
        function = _object_or_empty(said.get("function"))
        call = self._call(said, index)
        call_id, tool, arguments = said.get("id"), function.get("name"), function.get("arguments")
        if isinstance(call_id, str) and call_id:
            call.call_id = call_id
        if isinstance(tool, str) and tool:
            call.tool = tool
        # Some servers send an object where the format has text.
        part = json.dumps(arguments) if isinstance(arguments, dict) else arguments
        if isinstance(part, str):
            call.arguments += part
            self._bytes += len(part.encode())

    def _call(self, said: dict[str, Any], index: int | None) -> _Call:
        """The call that a part belongs to. Servers differ in how they number them."""
        number = said.get("index") if index is None else index
        known = self._numbered.get(number) if isinstance(number, int) else None
        if known is None and not isinstance(number, int) and not said.get("id") and self._calls:
            known = self._calls[-1]
        if known is not None and said.get("id") in (None, "", known.call_id):
            return known
        if len(self._calls) == _MOST_CALLS:
            raise BrokenAnswer(f"wants more than {_MOST_CALLS} tools called at once")
        call = _Call()
        self._calls.append(call)
        if isinstance(number, int):
            self._numbered[number] = call
        return call

    def _stop(self) -> StopReason:
        if self._cut is not None:
            return self._cut
        if not self._finish:
            raise BrokenAnswer("ended its answer early")
        if self._refusal:
            return StopReason.REFUSED
        stop = _STOPS.get(self._finish, StopReason.END)
        if self._calls and stop in (StopReason.END, StopReason.TOOL_CALLS):
            return StopReason.TOOL_CALLS
        if stop is StopReason.TOOL_CALLS:
            return StopReason.END
        return StopReason.STOP_TEXT if stop is StopReason.END and self._stop_text else stop


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BrokenAnswer("sent what is no answer")
    return cast(dict[str, Any], value)


def _object_or_empty(value: object) -> dict[str, Any]:
    return cast(dict[str, Any], value) if isinstance(value, dict) else {}


def _list(value: object) -> Sequence[object]:
    return cast(list[object], value) if isinstance(value, list) else ()


def _said(content: object) -> str:
    """The text, which some servers send in parts."""
    if isinstance(content, str):
        return content
    parts = [_object_or_empty(each).get("text") for each in _list(content)]
    return "".join(each for each in parts if isinstance(each, str))


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return value
    return None
