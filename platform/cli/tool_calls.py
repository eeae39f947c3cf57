"""The calls of `agentmesh tool`, and what they print."""

import uuid
from typing import Any, Final

from agentmesh.tool.v1.tool_pb2 import Effect, Tool
from agentmesh.tool.v1.tool_service_pb2 import (
    ExecuteToolRequest,
    ExecuteToolResponse,
)
from cli.answer import place
from cli.gateway import Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.offered_tools import offered
from cli.plain import to_plain
from cli.problem import Report
from cli.wording import seconds, shorten

# Tools have time limits of their own, which are shorter.
_EXECUTE_SECONDS: Final = 120.0
_DESCRIPTION: Final = 120


def list_tools(invocation: Invocation) -> None:
    """Prints all tools."""

    async def run(gateway: Gateway) -> list[Tool]:
        return await offered(gateway, invocation.parent)

    tools = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"tools": [to_plain(each) for each in tools]})
        return
    invocation.terminal.table(
        ("TOOL", "ARGUMENTS", "EFFECT", "DESCRIPTION"),
        [
            (
                each.tool_id,
                _parameters(each),
                _effect(each),
                shorten(each.description, _DESCRIPTION),
            )
            for each in tools
        ],
    )


def call_tool(
    invocation: Invocation, name: str, arguments: dict[str, Any], idempotency_key: str, session: str
) -> bool:
    """Calls a tool and prints its result. False where the tool failed."""
    request = ExecuteToolRequest(
        parent=invocation.parent,
        idempotency_key=idempotency_key or f"cli-{uuid.uuid4()}",
        session=session,
    )
    request.call.call_id = "cli"
    request.call.tool = name
    request.call.arguments.update(arguments)

    async def run(gateway: Gateway) -> ExecuteToolResponse:
        return await gateway.tools.ExecuteTool(request, timeout=_EXECUTE_SECONDS)

    answer = call(address_of(invocation), invocation.tenant, run)
    result = answer.result
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document(to_plain(answer))
    elif not result.is_error:
        terminal.say(result.text)
        for citation in result.citations:
            terminal.progress(f"  {place(citation)}")
        replayed = ", from the record" if answer.replayed else ""
        terminal.progress(f"{seconds(answer.duration.ToNanoseconds() / 1e9)}{replayed}")
    if result.is_error:
        terminal.fail(Report(f"The tool {name} failed: {result.text}"))
    return not result.is_error


def _parameters(tool: Tool) -> str:
    schema = to_plain(tool.parameters)
    required = schema.get("required", [])
    names = schema.get("properties", {})
    return ", ".join(name if name in required else f"[{name}]" for name in names) or "-"


def _effect(tool: Tool) -> str:
    words = {
        Effect.EFFECT_READ_ONLY: "only reads",
        Effect.EFFECT_IDEMPOTENT: "idempotent",
        Effect.EFFECT_UNSAFE: "unsafe to repeat",
    }
    effect = words.get(tool.effect, "unsafe to repeat")
    return f"{effect}, needs approval" if tool.requires_approval else effect
