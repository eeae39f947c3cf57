"""Tool calls as models say them: arguments as text that may be almost JSON, tools by name."""

import json
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final, cast

from google.protobuf import struct_pb2

from agentmesh.common.v1 import conversation_pb2
from meshkit.json_struct import to_struct
from services.reasoning.almost_json import NotJson, read_object
from services.reasoning.generation import Prompt

# No model is asked to plan so many at once.
_MOST_CALLS: Final = 128


class UnfitCalls(ValueError):
    """The calls are not made. The text is a clause that holds nothing of what the model said."""


@dataclass(frozen=True, slots=True)
class SaidCall:
    """A call, with the tool's name as the mesh has it."""

    # Empty where the model gave none.
    call_id: str
    tool: str
    # JSON, or almost; empty for none.
    arguments: str


def tool_calls(
    said: Sequence[SaidCall], prompt: Prompt, *, cut: bool = False
) -> Sequence[conversation_pb2.ToolCall]:
    """The calls, in their order, each with an id that no other of the conversation has.

    Arguments are repaired as almost_json.py says. A call of a tool that was not offered, or
    with arguments that are no object, is not made, and neither are those beside it: what
    the model planned would be done in part. Whether arguments fit the tool's schema, the tool
    service says, and the model can correct them.

    Args:
        said: What the model said.
        prompt: What it was asked, with the tools that it may call.
        cut: The answer was cut off at its limit: the call that it was cut in is left out.

    Raises UnfitCalls.
    """
    if len(said) > _MOST_CALLS:
        raise UnfitCalls(f"wants more than {_MOST_CALLS} tools called at once")
    offered = {tool.name for tool in prompt.tools}
    taken = {call.call_id for message in prompt.messages for call in message.tool_calls}
    calls: list[conversation_pb2.ToolCall] = []
    for index, each in enumerate(said):
        try:
            arguments = _arguments(each.arguments)
        except UnfitCalls:
            if cut and index == len(said) - 1:
                break
            raise
        if each.tool not in offered:
            raise UnfitCalls("wants a tool called that it was not offered")
        calls.append(
            conversation_pb2.ToolCall(
                call_id=_own_id(each.call_id, taken), tool=each.tool, arguments=arguments
            )
        )
    return calls


def _arguments(text: str) -> struct_pb2.Struct:
    try:
        return to_struct(read_object(_unwrapped(text)) if text.strip() else {})
    except (NotJson, ValueError) as error:
        raise UnfitCalls(f"wants a tool called with arguments whose text {error}") from None


def _unwrapped(text: str) -> str:
    """The text within, of arguments that were made JSON twice."""
    if not text.lstrip().startswith('"'):
        return text
    try:
        value: Any = json.loads(text)
    except ValueError:
        return text
    return cast(str, value)


def _own_id(said: str, taken: set[str]) -> str:
    call_id, number = said or "call-1", 1
    while call_id in taken:
        number += 1
        call_id = f"{said or 'call'}-{number}"
    taken.add(call_id)
    return call_id
