"""Test-only: conversations with the offline model, in few words."""

from collections.abc import Sequence
from typing import Any, Final

from google.protobuf.json_format import MessageToDict

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_TOOL,
    Citation,
    Message,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Completion, Prompt
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.prompts import said
from services.reasoning.provider_offline import OfflineProvider

TOOLS: Final = [pb.ToolSpec(name=name) for name in ("calculator", "search_memory", "current_time")]


def offline_provider() -> OfflineProvider:
    """It knows one city's time."""
    return OfflineProvider(Planner(TimeQuestions(lambda: ["Europe/Berlin", "UTC"])))


def tool_result(call_id: str, tool: str, text: str, *citations: Citation, **more: Any) -> Message:
    """What came of a call."""
    result = ToolResult(call_id=call_id, tool=tool, text=text, citations=citations, **more)
    return Message(role=ROLE_TOOL, tool_result=result)


async def complete(
    messages: Sequence[Message], tools: Sequence[pb.ToolSpec] = TOOLS, **limits: Any
) -> Completion:
    """What the model makes of a conversation."""
    return await offline_provider().complete(Prompt(messages, tools, **limits))


async def planned_calls(text: str, tools: Sequence[pb.ToolSpec] = TOOLS) -> list[dict[str, Any]]:
    """The calls that a request makes it plan."""
    completion = await complete([said(text)], tools)
    return [
        {"id": call.call_id, "tool": call.tool, **MessageToDict(call.arguments)}
        for call in completion.message.tool_calls
    ]


async def answer_from(
    question: str, *results: Message, before: Sequence[Message] = ()
) -> Completion:
    """The answer to a question whose tools returned `results`."""
    planned = await complete([*before, said(question)])
    return await complete([*before, said(question), planned.message, *results])
