"""An answer of the Messages API, whole or in events, as a Completion."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.anthropic_request import answer_tool
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_failures import TokensUsed
from services.reasoning.token_estimate import bytes_tokens, prompt_tokens
from services.reasoning.tool_call_arguments import SaidCall, UnfitCalls, tool_calls
from services.reasoning.tool_names import ToolNames

_STOPS: Final = {
    "end_turn": StopReason.END,
    "stop_sequence": StopReason.STOP_TEXT,
    "tool_use": StopReason.TOOL_CALLS,
    "max_tokens": StopReason.MAX_TOKENS,
    "model_context_window_exceeded": StopReason.MAX_TOKENS,
    # Of tools that the provider itself runs, of which none are asked for: not at its end.
    "pause_turn": StopReason.MAX_TOKENS,
    "refusal": StopReason.REFUSED,
}
_MOST_BLOCKS: Final = 1024
# More is not a count of tokens.
_MOST_TOKENS: Final = 1_000_000_000
# No tokeniser packs more into a token for long.
_MOST_BYTES_PER_TOKEN: Final = 16
_SLACK_BYTES: Final = 4096


class BrokenAnswer(ValueError):
    """The answer is none. The text is a clause."""


@dataclass(slots=True)
class _Block:
    kind: str
    call_id: str = ""
    tool: str = ""
    # What it says; of a call, its arguments.
    text: str = ""


class AnthropicAnswer:
    """One answer, as much of it as has come."""

    def __init__(self, prompt: Prompt, names: ToolNames, *, most_output_tokens: int) -> None:
        self._prompt: Final = prompt
        self._names: Final = names
        self._answer_tool: Final = answer_tool(names)
        self._most_bytes: Final = most_output_tokens * _MOST_BYTES_PER_TOKEN + _SLACK_BYTES
        self._blocks: Final[dict[int, _Block]] = {}
        self._bytes = 0
        self._stop = ""
        self._ended = False
        self._usage: Final[dict[str, Any]] = {}
        self._cut: StopReason | None = None
        self._cut_text = ""

    @property
    def too_long(self) -> bool:
        """Whether it says more than it was allowed to: the server does not stop by itself."""
        return self._bytes > self._most_bytes

    @property
    def used(self) -> TokensUsed | None:
        """What it has used so far; None before the server has said anything."""
        return self._used() if self._usage else None

    def add_whole(self, content: object) -> str:
        """Takes an answer that came whole; its text. Raises BrokenAnswer."""
        message = _object(content)
        blocks = message.get("content")
        if message.get("type") != "message" or not isinstance(blocks, list):
            raise BrokenAnswer("sent what is no answer")
        self._add_usage(message.get("usage"))
        text = "".join(
            self._begin(index, block) for index, block in enumerate(cast(list[object], blocks))
        )
        self._add_stop(message)
        self._ended = True
        return text

    def add_event(self, content: object) -> str:
        """Takes an event; the text in it. Raises BrokenAnswer."""
        event = _object(content)
        match event.get("type"):
            case "message_start":
                self._add_usage(_object(event.get("message")).get("usage"))
            case "content_block_start":
                return self._begin(_index(event), event.get("content_block"))
            case "content_block_delta":
                return self._add_delta(_index(event), _object(event.get("delta")))
            case "message_delta":
                self._add_usage(event.get("usage"))
                self._add_stop(_object(event.get("delta")))
            case "message_stop":
                self._ended = True
            case _:
                # More kinds may come, says the API.
                pass
        return ""

    def cut(self, reason: StopReason, text: str | None = None) -> None:
        """Ends the answer here: nothing but `text`, or what came so far, was said."""
        self._cut_text = self._text() if text is None else text
        self._cut = reason

    def completion(self) -> Completion:
        """The answer. Raises BrokenAnswer where it did not come to its end."""
        message = conversation_pb2.Message(role=conversation_pb2.ROLE_ASSISTANT)
        text = self._text() if self._cut is None else self._cut_text
        if text:
            message.parts.add(text=text)
        stop = self._why()
        if self._cut is None:
            message.tool_calls.extend(self._calls(stop))
        if message.tool_calls and stop is StopReason.END:
            stop = StopReason.TOOL_CALLS
        elif stop is StopReason.TOOL_CALLS and not message.tool_calls:
            # It gave its answer to the tool that takes it.
            stop = StopReason.END
        used = self._used()
        return Completion(
            message,
            stop,
            input_tokens=used.input_tokens,
            output_tokens=used.output_tokens,
            cached_input_tokens=used.cached_input_tokens,
        )

    def _begin(self, index: int, content: object) -> str:
        """A block, with what it holds from its beginning."""
        if len(self._blocks) == _MOST_BLOCKS:
            raise BrokenAnswer(f"sent more than {_MOST_BLOCKS} blocks")
        said = _object(content)
        block = _Block(
            kind=str(said.get("type")),
            call_id=_word(said.get("id")),
            tool=_word(said.get("name")),
        )
        self._blocks[index] = block
        if block.kind == "text":
            return self._add(block, _word(said.get("text")))
        if block.kind == "tool_use" and said.get("input"):
            given = said["input"]
            text = given if isinstance(given, str) else json.dumps(given, ensure_ascii=False)
            return self._add(block, text)
        return ""

    def _add_delta(self, index: int, delta: dict[str, Any]) -> str:
        block = self._blocks.get(index)
        if block is None:
            raise BrokenAnswer("went on with what it had not begun")
        match delta.get("type"):
            case "text_delta" if block.kind == "text":
                return self._add(block, _word(delta.get("text")))
            case "input_json_delta" if block.kind == "tool_use":
                return self._add(block, _word(delta.get("partial_json")))
            case _:
                # Its thoughts, which are not part of what it says.
                self._bytes += len(_word(delta.get("thinking")).encode())
                return ""

    def _add(self, block: _Block, piece: str) -> str:
        block.text += piece
        self._bytes += len(piece.encode())
        return piece if self._is_said(block) else ""

    def _add_usage(self, usage: object) -> None:
        # Later counts are of the whole, and leave out what has not changed.
        if isinstance(usage, dict):
            self._usage.update(
                {
                    name: value
                    for name, value in cast(dict[str, Any], usage).items()
                    if value is not None
                }
            )

    def _add_stop(self, said: dict[str, Any]) -> None:
        self._stop = _word(said.get("stop_reason")) or self._stop

    def _why(self) -> StopReason:
        if self._cut is not None:
            return self._cut
        if not self._ended or not self._stop:
            raise BrokenAnswer("ended its answer early")
        return _STOPS.get(self._stop, StopReason.END)

    def _text(self) -> str:
        return "".join(block.text for block in self._blocks.values() if self._is_said(block))

    def _calls(self, stop: StopReason) -> Sequence[conversation_pb2.ToolCall]:
        said = [
            SaidCall(block.call_id, self._names.meant(block.tool), block.text)
            for block in self._blocks.values()
            if block.kind == "tool_use" and not self._is_said(block)
        ]
        try:
            return tool_calls(said, self._prompt, cut=stop is StopReason.MAX_TOKENS)
        except UnfitCalls as error:
            raise BrokenAnswer(str(error)) from None

    def _is_said(self, block: _Block) -> bool:
        """Whether it is part of the text."""
        return block.kind == "text" or (
            block.kind == "tool_use" and block.tool == self._answer_tool
        )

    def _used(self) -> TokensUsed:
        """The input counts without what was cached, which is told apart."""
        told = _count(self._usage, "input_tokens")
        cached = _count(self._usage, "cache_read_input_tokens") or 0
        if told is None:
            sent = prompt_tokens(self._prompt.messages, self._prompt.tools)
        else:
            sent = told + cached + (_count(self._usage, "cache_creation_input_tokens") or 0)
        received = _count(self._usage, "output_tokens")
        estimated = bytes_tokens(self._bytes)
        # What it said at its beginning is no count of an answer that broke off.
        if received is None or not self._stop:
            received = max(received or 0, estimated)
        return TokensUsed(sent, received, min(cached, sent))


def _object(value: object) -> dict[str, Any]:
    if not isinstance(value, dict):
        raise BrokenAnswer("sent what is no answer")
    return cast(dict[str, Any], value)


def _index(event: dict[str, Any]) -> int:
    index = event.get("index")
    if not isinstance(index, int):
        raise BrokenAnswer("sent what is no answer")
    return index


def _word(value: object) -> str:
    return value if isinstance(value, str) else ""


def _count(usage: dict[str, Any], name: str) -> int | None:
    value = usage.get(name)
    if isinstance(value, int) and not isinstance(value, bool) and 0 <= value <= _MOST_TOKENS:
        return value
    return None
