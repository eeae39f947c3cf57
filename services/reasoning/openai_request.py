"""A prompt as a request of OpenAI's chat completions."""

import base64
import hashlib
import json
from collections.abc import Iterator, Sequence
from itertools import takewhile
from typing import Any, Final

from google.protobuf import struct_pb2

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.json_struct import to_mapping
from services.reasoning.generation import Prompt
from services.reasoning.model import ModelSpec
from services.reasoning.openai_dialect import Dialect, SchemaForm
from services.reasoning.output_limit import most_output_tokens
from services.reasoning.tool_names import ToolNames

# Longer ones OpenAI refuses.
_MOST_ID_CHARACTERS: Final = 40
_HTTPS: Final = "https://"
_ROLES: Final = {
    conversation_pb2.ROLE_SYSTEM: "system",
    conversation_pb2.ROLE_USER: "user",
    conversation_pb2.ROLE_ASSISTANT: "assistant",
    conversation_pb2.ROLE_TOOL: "tool",
}


class NotSendable(ValueError):
    """The prompt holds what no such request can. The text is a clause."""


def chat_request(
    prompt: Prompt,
    *,
    spec: ModelSpec,
    model: str,
    names: ToolNames,
    dialect: Dialect,
    streamed: bool,
) -> dict[str, Any]:
    """The request's content. Raises NotSendable.

    `model`: what the server calls it.
    """
    request: dict[str, Any] = {
        "model": model,
        "messages": _conversation(prompt, names, dialect),
    }
    if dialect.takes(dialect.tokens):
        request[dialect.tokens] = most_output_tokens(prompt, spec)
    if prompt.tools:
        request["tools"] = [_tool(each, names) for each in prompt.tools]
    if prompt.temperature is not None and dialect.takes("temperature"):
        request["temperature"] = prompt.temperature
    if prompt.seed is not None and dialect.takes("seed"):
        request["seed"] = prompt.seed
    if prompt.stop and dialect.takes("stop"):
        request["stop"] = list(prompt.stop)
    if prompt.output_schema and dialect.schema is not SchemaForm.WORDS:
        request["response_format"] = _response_format(prompt.output_schema, dialect.schema)
    if streamed:
        request["stream"] = True
        if dialect.takes("stream_options"):
            request["stream_options"] = {"include_usage": True}
    return request


def _conversation(prompt: Prompt, names: ToolNames, dialect: Dialect) -> list[dict[str, Any]]:
    messages = list(_messages(prompt.messages, names))
    if prompt.output_schema and dialect.schema is not SchemaForm.JSON_SCHEMA:
        words = f"Answer with JSON alone. It must satisfy this JSON Schema:\n{prompt.output_schema}"
        # After the agent's own instructions.
        own = takewhile(lambda each: each["role"] == "system", messages)
        messages.insert(sum(1 for _ in own), {"role": "system", "content": words})
    return messages


def _messages(
    messages: Sequence[conversation_pb2.Message], names: ToolNames
) -> Iterator[dict[str, Any]]:
    for message in messages:
        if message.role == conversation_pb2.ROLE_TOOL:
            result = message.tool_result
            yield {
                "role": "tool",
                "tool_call_id": _call_id(result.call_id),
                "content": _result_text(result),
            }
            continue
        sent: dict[str, Any] = {
            "role": _ROLES[message.role],
            "content": _content(message.parts),
        }
        if message.tool_calls:
            sent["content"] = sent["content"] or None
            sent["tool_calls"] = [_call(each, names) for each in message.tool_calls]
        yield sent


def _content(parts: Sequence[conversation_pb2.Part]) -> str | list[dict[str, Any]]:
    """Plain text where that will do: not every server takes more."""
    if not any(part.HasField("image") for part in parts):
        return "\n\n".join(part.text for part in parts)
    return [
        {"type": "image_url", "image_url": {"url": _image_url(part.image)}}
        if part.HasField("image")
        else {"type": "text", "text": part.text}
        for part in parts
        if part.HasField("image") or part.text
    ]


def _image_url(image: conversation_pb2.Image) -> str:
    if image.WhichOneof("source") == "uri":
        if not image.uri.startswith(_HTTPS):
            raise NotSendable("takes images as bytes or from https addresses only")
        return image.uri
    return f"data:{image.media_type};base64,{base64.b64encode(image.data).decode()}"


def _call(call: conversation_pb2.ToolCall, names: ToolNames) -> dict[str, Any]:
    arguments = _json(call.arguments)
    return {
        "id": _call_id(call.call_id),
        "type": "function",
        "function": {"name": names.sent(call.tool), "arguments": arguments},
    }


def _call_id(call_id: str) -> str:
    if len(call_id) <= _MOST_ID_CHARACTERS:
        return call_id
    return hashlib.sha256(call_id.encode()).hexdigest()[:_MOST_ID_CHARACTERS]


def _result_text(result: conversation_pb2.ToolResult) -> str:
    text = result.text
    if not text and result.HasField("data"):
        text = _json(result.data)
    return f"Error: {text}" if result.is_error else text


def _tool(tool: pb.ToolSpec, names: ToolNames) -> dict[str, Any]:
    parameters: Any = json.loads(_json(tool.parameters)) or {"type": "object", "properties": {}}
    function = {
        "name": names.sent(tool.name),
        "description": tool.description,
        "parameters": parameters,
    }
    return {"type": "function", "function": function}


def _json(struct: struct_pb2.Struct) -> str:
    """The same text every time: a Struct has no order, and providers cache how prompts begin."""
    return json.dumps(to_mapping(struct), ensure_ascii=False, sort_keys=True)


def _response_format(schema: str, form: SchemaForm) -> dict[str, Any]:
    if form is SchemaForm.JSON_OBJECT:
        return {"type": "json_object"}
    told: Any = json.loads(schema)
    return {
        "type": "json_schema",
        "json_schema": {"name": "answer", "schema": told, "strict": _is_strict(told)},
    }


def _is_strict(schema: Any) -> bool:
    """Whether OpenAI can promise this shape: each object closed, and all of it required."""
    if isinstance(schema, list):
        return all(_is_strict(each) for each in schema)  # pyright: ignore[reportUnknownVariableType]
    if not isinstance(schema, dict):
        return True
    node: dict[str, Any] = schema  # pyright: ignore[reportUnknownVariableType]: of JSON
    if "properties" in node or node.get("type") == "object":
        properties: dict[str, Any] = node.get("properties") or {}
        if node.get("additionalProperties") is not False:
            return False
        if set(node.get("required") or ()) != set(properties):
            return False
    return all(_is_strict(each) for each in node.values())
