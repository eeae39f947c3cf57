"""A prompt as a request of Anthropic's Messages API."""

import base64
import hashlib
import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Any, Final

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.json_struct import to_mapping
from services.reasoning.generation import Prompt
from services.reasoning.token_estimate import prompt_tokens
from services.reasoning.tool_names import ToolNames

# With a blank, which no tool of the mesh has in its name.
_ANSWER_TOOL: Final = "give answer"
_ANSWER: Final = "Give your answer here, once you have it."
_NO_ARGUMENTS: Final[dict[str, Any]] = {"type": "object", "properties": {}}
# Shorter beginnings of a prompt are not cached.
_LEAST_CACHED_TOKENS: Final = 1024
_ID: Final = re.compile(r"[A-Za-z0-9_-]{1,64}")
_HTTPS: Final = "https://"
_IMAGES: Final = frozenset(("image/gif", "image/jpeg", "image/png", "image/webp"))
# The API wants somebody to speak first, and the model to be the one who answers.
_OPENING: Final = "(The conversation begins earlier.)"
_GO_ON: Final = "Go on."
_UNANSWERED: Final = "There is no result of this call."

_Block = dict[str, Any]


class NotSendable(ValueError):
    """The prompt holds what no such request can. The text is a clause."""


class AnswerForm(Enum):
    """How the API is told of the answer's schema."""

    PROSE = "prose"
    # It promises the schema.
    NATIVE = "native"
    # The model has to call a tool that takes the answer.
    TOOL = "tool"


@dataclass(frozen=True, slots=True)
class AnswerShape:
    """What the answer looks like."""

    form: AnswerForm = AnswerForm.PROSE
    # As the API takes it, in its form.
    schema: dict[str, Any] | None = None


def messages_request(
    prompt: Prompt,
    *,
    model: str,
    names: ToolNames,
    most_output_tokens: int,
    shape: AnswerShape,
    may_force: bool,
    streamed: bool,
) -> dict[str, Any]:
    """The request's content. Raises NotSendable.

    The API takes neither a temperature nor a seed any more.

    Args:
        prompt: What is asked.
        model: What the API calls it.
        names: Of the tools, new.
        most_output_tokens: The most that the answer may have.
        shape: What the answer looks like.
        may_force: Whether the model can be made to call a tool.
        streamed: Whether the answer is to come in events.
    """
    answer = answer_tool(names)
    system, turns = _split(prompt.messages)
    request: dict[str, Any] = {
        "model": model,
        "max_tokens": most_output_tokens,
        "messages": _turns(turns, names) if turns else [_said(_blocks(system))],
    }
    tools = [_tool(each, names) for each in prompt.tools]
    if shape.form is AnswerForm.TOOL:
        if may_force:
            only = {"type": "tool", "name": answer}
            request["tool_choice"] = {"type": "any"} if tools else only
        tools.append({"name": answer, "description": _ANSWER, "input_schema": shape.schema})
    elif not tools and (called := _called(turns, names)):
        # Calls of the past need their tools, which nobody may call any more.
        tools = [{"name": name, "input_schema": _NO_ARGUMENTS} for name in called]
        request["tool_choice"] = {"type": "none"}
    if tools:
        request["tools"] = tools
    if turns and (instructions := _blocks(system)):
        request["system"] = instructions
    _mark(request, prompt)
    if shape.form is AnswerForm.NATIVE:
        request["output_config"] = {"format": {"type": "json_schema", "schema": shape.schema}}
    if stops := [stop for stop in prompt.stop if stop.strip()]:
        request["stop_sequences"] = stops
    if streamed:
        request["stream"] = True
    return request


def answer_tool(names: ToolNames) -> str:
    """The tool to which the model gives its answer, where the API cannot promise the schema.

    Asked for first of new `names`, it is the same for the request and for its answer.
    """
    return names.sent(_ANSWER_TOOL)


def unsent_stops(prompt: Prompt) -> Sequence[str]:
    """The stop texts that the API does not take: those that are blank."""
    return [stop for stop in prompt.stop if not stop.strip()]


def _split(
    messages: Sequence[conversation_pb2.Message],
) -> tuple[Sequence[conversation_pb2.Message], Sequence[conversation_pb2.Message]]:
    """Instructions, which stand apart wherever they were given, and the rest."""
    system = [each for each in messages if each.role == conversation_pb2.ROLE_SYSTEM]
    return system, [each for each in messages if each.role != conversation_pb2.ROLE_SYSTEM]


def _blocks(messages: Sequence[conversation_pb2.Message]) -> list[_Block]:
    """Instructions are text alone."""
    return [_text(part.text) for each in messages for part in each.parts if part.text.strip()]


def _turns(messages: Sequence[conversation_pb2.Message], names: ToolNames) -> list[dict[str, Any]]:
    """Turns of user and assistant by turns, each call followed by its result."""
    turns: list[dict[str, Any]] = []
    sent: set[str] = set()
    # Calls of the last turn that nobody has answered yet: their ids, and as they were sent.
    waiting: list[tuple[str, str]] = []
    for message in messages:
        if message.role == conversation_pb2.ROLE_ASSISTANT:
            if not turns:
                turns.append(_said([_text(_OPENING)]))
            calls = [(each.call_id, _id(each.call_id, sent)) for each in message.tool_calls]
            blocks = [*_parts(message.parts), *_calls(message.tool_calls, calls, names)]
            if blocks and turns[-1]["role"] == "user":
                _answer(turns, waiting)
            _extend(turns, "assistant", blocks)
            waiting += calls
        elif message.role == conversation_pb2.ROLE_TOOL:
            result = message.tool_result
            call = next((each for each in waiting if each[0] == result.call_id), None)
            if call is None:
                _extend(turns, "user", [_text(f"Result of {result.tool}: {_told(result)}")])
            else:
                waiting.remove(call)
                _add_result(turns, _result(result, call[1]))
        else:
            _extend(turns, "user", list(_parts(message.parts)))
    _answer(turns, waiting)
    if not turns or turns[-1]["role"] == "assistant":
        turns.append(_said([_text(_GO_ON)]))
    return turns


def _extend(turns: list[dict[str, Any]], role: str, blocks: list[_Block]) -> None:
    """Adds to the last turn where that is of the same role: the API wants them to take turns."""
    if not blocks:
        return
    if turns and turns[-1]["role"] == role:
        turns[-1]["content"] += blocks
    else:
        turns.append({"role": role, "content": blocks})


def _add_result(turns: list[dict[str, Any]], result: _Block) -> None:
    """Results stand before what is said besides."""
    if turns[-1]["role"] == "assistant":
        turns.append({"role": "user", "content": []})
    content: list[_Block] = turns[-1]["content"]
    at = sum(block["type"] == "tool_result" for block in content)
    content.insert(at, result)


def _answer(turns: list[dict[str, Any]], waiting: list[tuple[str, str]]) -> None:
    """Says of the calls that are waiting that there is nothing: the API wants a result of each."""
    for _, call in waiting:
        _add_result(
            turns,
            {
                "type": "tool_result",
                "tool_use_id": call,
                "content": _UNANSWERED,
                "is_error": True,
            },
        )
    waiting.clear()


def _said(blocks: list[_Block]) -> dict[str, Any]:
    return {"role": "user", "content": blocks or [_text(_GO_ON)]}


def _parts(parts: Sequence[conversation_pb2.Part]) -> Iterator[_Block]:
    for part in parts:
        if part.HasField("image"):
            yield {"type": "image", "source": _image(part.image)}
        elif part.text.strip():
            # Blank ones are refused.
            yield _text(part.text)


def _text(text: str) -> _Block:
    return {"type": "text", "text": text}


def _image(image: conversation_pb2.Image) -> _Block:
    if image.WhichOneof("source") == "uri":
        if not image.uri.startswith(_HTTPS):
            raise NotSendable("takes images as bytes or from https addresses only")
        return {"type": "url", "url": image.uri}
    if image.media_type not in _IMAGES:
        raise NotSendable("takes images as GIF, JPEG, PNG or WebP only")
    data = base64.b64encode(image.data).decode()
    return {"type": "base64", "media_type": image.media_type, "data": data}


def _calls(
    calls: Sequence[conversation_pb2.ToolCall],
    ids: Sequence[tuple[str, str]],
    names: ToolNames,
) -> Iterator[_Block]:
    for call, (_, sent) in zip(calls, ids, strict=True):
        yield {
            "type": "tool_use",
            "id": sent,
            "name": names.sent(call.tool),
            "input": to_mapping(call.arguments),
        }


def _called(messages: Sequence[conversation_pb2.Message], names: ToolNames) -> Sequence[str]:
    """The tools of calls that were made, each once."""
    return list(
        dict.fromkeys(names.sent(call.tool) for each in messages for call in each.tool_calls)
    )


def _result(result: conversation_pb2.ToolResult, call: str) -> _Block:
    block: _Block = {"type": "tool_result", "tool_use_id": call}
    if told := _told(result):
        block["content"] = told
    if result.is_error:
        block["is_error"] = True
    return block


def _told(result: conversation_pb2.ToolResult) -> str:
    if not result.text.strip() and result.HasField("data"):
        return json.dumps(to_mapping(result.data), ensure_ascii=False)
    return result.text if result.text.strip() else ""


def _id(call_id: str, sent: set[str]) -> str:
    """The id as the API takes it, which no other call of the request has."""
    own = call_id if _ID.fullmatch(call_id) else hashlib.sha256(call_id.encode()).hexdigest()[:40]
    number = 1
    while own in sent:
        number += 1
        own = f"{own[:50]}_{number}"
    sent.add(own)
    return own


def _tool(tool: pb.ToolSpec, names: ToolNames) -> _Block:
    schema = to_mapping(tool.parameters)
    sent: _Block = {
        "name": names.sent(tool.name),
        "input_schema": {"type": "object", **schema} if schema else _NO_ARGUMENTS,
    }
    if tool.description.strip():
        sent["description"] = tool.description
    return sent


def _mark(request: dict[str, Any], prompt: Prompt) -> None:
    """Has the tools and the first instructions cached, which are the same call after call.

    What is marked is kept with all that stands before it: the tools before the instructions.
    """
    first: list[conversation_pb2.Message] = []
    for message in prompt.messages:
        if message.role != conversation_pb2.ROLE_SYSTEM:
            break
        first.append(message)
    if prompt_tokens(first, prompt.tools) < _LEAST_CACHED_TOKENS:
        return
    blocks = len(_blocks(first))
    if "system" in request and blocks:
        request["system"][blocks - 1]["cache_control"] = {"type": "ephemeral"}
    elif "tools" in request:
        request["tools"][-1]["cache_control"] = {"type": "ephemeral"}
