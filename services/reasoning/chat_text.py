r"""A conversation as one text, for models that are given text and no messages.

ChatML with tools as Hermes' and Qwen's models are trained on them:

    <|im_start|>system
    You answer briefly.

    # Tools
    ...
    <tools>
    {"type": "function", "function": {"name": "calculator", ...}}
    </tools>...<|im_end|>
    <|im_start|>user
    What is 2 + 2?<|im_end|>
    <|im_start|>assistant
    <tool_call>
    {"id": "call-1", "name": "calculator", "arguments": {"expression": "2 + 2"}}
    </tool_call><|im_end|>
    <|im_start|>tool
    <tool_response>
    {"call_id": "call-1", "name": "calculator", "text": "2 + 2 = 4"}
    </tool_response><|im_end|>
    <|im_start|>assistant

No text can leave its message: where it has one of these marks, or what other tokenisers take
for one, a backslash breaks it (`<|im_end|>` is sent as `<\|im_end|>`), and JSON writes `<` as
`\u003c`. Both can be taken back: `read_chat(write_chat(...))` gives the same conversation.
"""

import json
import re
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Any, Final

from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.json_struct import to_mapping, to_struct

CALL_BEGIN: Final = "<tool_call>"
CALL_END: Final = "</tool_call>"
# Where an image stands in a text; the images themselves go beside it, in this order.
IMAGE: Final = "<image>"

_MARKS: Final = r"(?:[|｜]|/?(?:s|tools|tool_call|tool_response|image)>)"
_TO_BREAK: Final = re.compile(rf"<(\\*)(?={_MARKS})")
_BROKEN: Final = re.compile(rf"<(\\*)\\(?={_MARKS})")

_START: Final = "<|im_start|>"
_END: Final = "<|im_end|>"
_TURN: Final = re.compile(r"<\|im_start\|>(\w+)\n(.*?)<\|im_end\|>\n", re.DOTALL)
_ROLES: Final = {
    conversation_pb2.ROLE_SYSTEM: "system",
    conversation_pb2.ROLE_USER: "user",
    conversation_pb2.ROLE_ASSISTANT: "assistant",
    conversation_pb2.ROLE_TOOL: "tool",
}
_ROLES_BY_NAME: Final = {name: role for role, name in _ROLES.items()}
_ASSISTANT_SPEAKS: Final = f"{_START}assistant\n"

_TOOLS_BEGIN: Final = (
    "# Tools\n\nYou may call one or more functions to assist with the user query.\n\n"
    "You are provided with function signatures within <tools></tools> XML tags:\n<tools>\n"
)
_TOOLS_END: Final = (
    "\n</tools>\n\nFor each function call, return a json object with function name and arguments"
    " within <tool_call></tool_call> XML tags:\n<tool_call>\n"
    '{"name": <function-name>, "arguments": <args-json-object>}\n</tool_call>'
)
_CALL: Final = re.compile(r"\n?<tool_call>\n(.*?)\n</tool_call>", re.DOTALL)
_RESULT: Final = re.compile(r"<tool_response>\n(.*?)\n</tool_response>", re.DOTALL)


class BadChat(ValueError):
    """A text is no conversation in this format; says where."""


@dataclass(frozen=True, slots=True)
class Chat:
    """A conversation and the tools that are offered in it."""

    messages: Sequence[conversation_pb2.Message]
    tools: Sequence[pb.ToolSpec] = ()


def broken_marks(text: str) -> str:
    """`text` with a backslash in all that could be taken for a mark."""
    return _TO_BREAK.sub(r"<\1\\", text)


def mended_marks(text: str) -> str:
    """The text of which `broken_marks` made `text`."""
    return _BROKEN.sub(r"<\1", text)


def json_text(value: Any) -> str:
    """`value` as JSON in which no mark can stand."""
    return json.dumps(value, ensure_ascii=False).replace("<", "\\u003c")


def write_call(call: conversation_pb2.ToolCall) -> str:
    """A tool call as a model writes it, its id included."""
    said = {"id": call.call_id, "name": call.tool, "arguments": to_mapping(call.arguments)}
    return f"{CALL_BEGIN}\n{json_text(said)}\n{CALL_END}"


def write_chat(chat: Chat) -> str:
    """The text that a model goes on from: it ends where the model is to speak."""
    return "".join([*_turns(chat), _ASSISTANT_SPEAKS])


def read_chat(text: str) -> Chat:
    """The conversation that `text` holds; text without marks is one message of a user.

    Raises BadChat.
    """
    if _START not in text:
        return Chat([_message(conversation_pb2.ROLE_USER, text)])
    messages: list[conversation_pb2.Message] = []
    tools: list[pb.ToolSpec] = []
    position = 0
    while turn := _TURN.match(text, position):
        position = turn.end()
        role = _ROLES_BY_NAME.get(turn[1])
        if role is None:
            raise BadChat(f"the turn at character {turn.start()} is of no known speaker")
        try:
            messages += _read_turn(role, turn[2], tools)
        except (ValueError, KeyError, AttributeError, TypeError) as error:
            raise BadChat(f"the turn at character {turn.start()} cannot be read") from error
    if text[position:] not in (_ASSISTANT_SPEAKS, ""):
        raise BadChat(f"what begins at character {position} is no turn")
    return Chat(messages, tools)


def _turns(chat: Chat) -> Iterator[str]:
    offered = _tools_text(chat.tools)
    rest = list(chat.messages)
    if offered:
        said = ""
        if rest and rest[0].role == conversation_pb2.ROLE_SYSTEM:
            said = f"{_text(rest.pop(0))}\n\n"
        yield _turn("system", f"{said}{offered}")
    for message in rest:
        yield _turn(_ROLES[message.role], _content(message))


def _turn(role: str, content: str) -> str:
    return f"{_START}{role}\n{content}{_END}\n"


def _content(message: conversation_pb2.Message) -> str:
    if message.HasField("tool_result"):
        said = {
            "call_id": message.tool_result.call_id,
            "name": message.tool_result.tool,
            **_as_json(message.tool_result, leave_out=("call_id", "tool", "data")),
        }
        if message.tool_result.HasField("data"):
            said["data"] = to_mapping(message.tool_result.data)
        return f"<tool_response>\n{json_text(said)}\n</tool_response>"
    return "\n".join([*filter(None, [_text(message)]), *map(write_call, message.tool_calls)])


def _text(message: conversation_pb2.Message) -> str:
    parts = (IMAGE if part.HasField("image") else broken_marks(part.text) for part in message.parts)
    return "\n".join(filter(None, parts))


def _tools_text(tools: Sequence[pb.ToolSpec]) -> str:
    if not tools:
        return ""
    said = (
        json_text(
            {
                "type": "function",
                "function": {
                    "name": tool.name,
                    "description": tool.description,
                    "parameters": to_mapping(tool.parameters),
                },
            }
        )
        for tool in tools
    )
    return _TOOLS_BEGIN + "\n".join(said) + _TOOLS_END


def _read_turn(
    role: conversation_pb2.Role, content: str, tools: list[pb.ToolSpec]
) -> Iterator[conversation_pb2.Message]:
    match role:
        case conversation_pb2.ROLE_SYSTEM if content.endswith(_TOOLS_END):
            said, _, offered = content.removesuffix(_TOOLS_END).rpartition(_TOOLS_BEGIN)
            tools += [_read_tool(line) for line in offered.split("\n")]
            if said:
                yield _message(role, mended_marks(said.removesuffix("\n\n")))
        case conversation_pb2.ROLE_ASSISTANT:
            calls = [_read_call(found) for found in _CALL.findall(content)]
            message = _message(role, mended_marks(_CALL.sub("", content)))
            message.tool_calls.extend(calls)
            yield message
        case conversation_pb2.ROLE_TOOL if found := _RESULT.fullmatch(content):
            said = json.loads(found[1])
            said["tool"] = said.pop("name")
            data = said.pop("data", None)
            result = json_format.ParseDict(said, conversation_pb2.ToolResult())
            if data is not None:
                result.data.CopyFrom(to_struct(data))
            yield conversation_pb2.Message(role=role, tool_result=result)
        case _:
            yield _message(role, mended_marks(content))


def _read_tool(line: str) -> pb.ToolSpec:
    function = json.loads(line)["function"]
    return pb.ToolSpec(
        name=function["name"],
        description=function["description"],
        parameters=to_struct(function["parameters"]),
    )


def _read_call(text: str) -> conversation_pb2.ToolCall:
    said = json.loads(text)
    return conversation_pb2.ToolCall(
        call_id=said["id"], tool=said["name"], arguments=to_struct(said["arguments"])
    )


def _message(role: conversation_pb2.Role, text: str) -> conversation_pb2.Message:
    parts = [conversation_pb2.Part(text=text)] if text else []
    return conversation_pb2.Message(role=role, parts=parts)


def _as_json(result: conversation_pb2.ToolResult, *, leave_out: Sequence[str]) -> dict[str, Any]:
    said = json_format.MessageToDict(result, preserving_proto_field_name=True)
    return {key: value for key, value in said.items() if key not in leave_out}
