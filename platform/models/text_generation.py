"""What the Triton model `text_generation` writes: the offline model, asked as vLLM's backend is.

Prompt text and sampling parameters in, pieces of text with a finish reason and counts out.
"""

import asyncio
import json
import re
import zoneinfo
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

from services.reasoning.chat_text import BadChat, broken_marks, read_chat, write_call
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.provider_offline import OfflineProvider
from services.reasoning.token_estimate import bytes_tokens, text_tokens

_PIECE: Final = re.compile(r"\s*\S+\s*|\s+")


class BadRequest(ValueError):
    """The prompt or its parameters are not as they should be; says what."""


@dataclass(frozen=True, slots=True)
class Written:
    """An answer."""

    # As they would be streamed.
    pieces: Sequence[str]
    # As vLLM calls it: `stop` or `length`.
    finish_reason: str
    input_tokens: int
    # Of each piece.
    output_tokens: Sequence[int]


class TextGeneration:
    """The model. The same prompt gets the same answer. Safe to use from several threads."""

    def __init__(self) -> None:
        self._model: Final = OfflineProvider(Planner(TimeQuestions(zoneinfo.available_timezones)))

    def write(self, text: str, parameters: str) -> Written:
        """What follows on `text`, a conversation as chat_text.py writes it or plain text.

        `parameters` are those of vLLM's sampling as JSON; empty for none. Of them
        `max_tokens`, `stop`, `include_stop_str_in_output` and `structured_outputs` count.
        Raises BadRequest.
        """
        asked = _parameters(parameters)
        try:
            chat = read_chat(text)
        except BadChat as error:
            raise BadRequest(f"text_input: {error}") from error
        prompt = Prompt(
            messages=chat.messages,
            tools=chat.tools,
            max_output_tokens=asked.max_tokens,
            output_schema=asked.schema,
        )
        completion = asyncio.run(self._model.complete(prompt))
        said, finish_reason = _said(completion, asked)
        pieces = [match[0] for match in _PIECE.finditer(said)] or [""]
        return Written(pieces, finish_reason, text_tokens(text), _counts(pieces))


@dataclass(frozen=True, slots=True)
class _Parameters:
    max_tokens: int
    stop: Sequence[str]
    include_stop: bool
    schema: str


def _parameters(text: str) -> _Parameters:
    try:
        given: Any = json.loads(text or "{}")
        # Some clients send all values as texts, which vLLM takes too.
        max_tokens = int(given.get("max_tokens") or 0)
        stop: Any = given.get("stop") or []
        structured = json.loads(given.get("structured_outputs") or "{}")
        schema = structured.get("json")
    except (ValueError, AttributeError, TypeError) as error:
        raise BadRequest("sampling_parameters: are no JSON object of vLLM's parameters") from error
    return _Parameters(
        max_tokens=max(max_tokens, 0),
        stop=[stop] if isinstance(stop, str) else stop,
        include_stop=bool(given.get("include_stop_str_in_output")),
        schema=schema if isinstance(schema, str) else json.dumps(schema) if schema else "",
    )


def _said(completion: Completion, asked: _Parameters) -> tuple[str, str]:
    """All that is written, and why it ended."""
    text = broken_marks("\n".join(part.text for part in completion.message.parts))
    said = "\n".join([*filter(None, [text]), *map(write_call, completion.message.tool_calls)])
    found = [(at, each) for each in asked.stop if each and (at := said.find(each)) >= 0]
    if found:
        at, stop = min(found)
        return said[: at + len(stop) if asked.include_stop else at], "stop"
    limited = completion.stop_reason is StopReason.MAX_TOKENS
    return said, "length" if limited else "stop"


def _counts(pieces: Sequence[str]) -> list[int]:
    """Tokens of each piece: together those of the whole text."""
    counts: list[int] = []
    size = tokens = 0
    for piece in pieces:
        size += len(piece.encode())
        before, tokens = tokens, bytes_tokens(size)
        counts.append(tokens - before)
    return counts
