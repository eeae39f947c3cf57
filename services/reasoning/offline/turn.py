"""Reads out of a conversation where it stands."""

from collections.abc import Sequence
from dataclasses import dataclass

from agentmesh.common.v1 import conversation_pb2


@dataclass(frozen=True, slots=True)
class Turn:
    """What the person asks now, and what was done about it already."""

    # What the person wrote last, and the time before; empty where they did not.
    request: str
    request_before: str
    # Everything said before the request, by anybody but the model.
    said: Sequence[str]
    # Tool calls made before the request: those after it are numbered on from here.
    calls_before: int
    # What tools answered since the request.
    results: Sequence[conversation_pb2.ToolResult]


def read_turn(messages: Sequence[conversation_pb2.Message]) -> Turn:
    """Where the conversation `messages` stands."""
    last = len(messages) - 1
    while last >= 0 and messages[last].role != conversation_pb2.ROLE_USER:
        last -= 1
    said: list[str] = []
    request_before = ""
    calls = 0
    for message in messages[: max(last, 0)]:
        if message.role == conversation_pb2.ROLE_ASSISTANT:
            calls += len(message.tool_calls)
        elif message.role != conversation_pb2.ROLE_TOOL:
            said.append(text_of(message))
        if message.role == conversation_pb2.ROLE_USER:
            request_before = said[-1]
    results = [
        message.tool_result
        for message in messages[last + 1 :]
        if message.role == conversation_pb2.ROLE_TOOL
    ]
    request = text_of(messages[last]) if last >= 0 else ""
    return Turn(request, request_before, said, calls, results)


def text_of(message: conversation_pb2.Message) -> str:
    """The text of a message; images are passed over."""
    if len(message.parts) == 1:
        return message.parts[0].text
    return "\n".join(part.text for part in message.parts if part.text)
