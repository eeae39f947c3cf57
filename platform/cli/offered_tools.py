"""The tools that a tenant has, and those that an agent names and nobody offers."""

from collections.abc import Sequence
from typing import Final

from agentmesh.tool.v1.tool_pb2 import Tool
from agentmesh.tool.v1.tool_service_pb2 import ListToolsRequest
from cli.gateway import Gateway
from cli.pages import collect
from cli.terminal import Terminal
from meshkit.errors import MeshError

_MAX_TOOLS: Final = 100_000
# Executors have these themselves.
_OF_EXECUTORS: Final = ("ask_person", "delegate", "wait")


async def offered(gateway: Gateway, parent: str) -> list[Tool]:
    """All tools of the tenant."""
    request = ListToolsRequest(parent=parent)
    return await collect(
        gateway.tools.ListTools, request, lambda page: page.tools, limit=_MAX_TOOLS
    )


async def warn(terminal: Terminal, gateway: Gateway, parent: str, named: Sequence[str]) -> None:
    """Says which of the tools named are not there: an agent does without them, in silence.

    It is no error, for they may yet come; where nobody can be asked, nothing is said.
    """
    if set(named) <= {*_OF_EXECUTORS}:
        return
    try:
        known = {*_OF_EXECUTORS, *(each.tool_id for each in await offered(gateway, parent))}
    except MeshError:
        return
    missing = ", ".join(each for each in named if each not in known)
    if missing:
        terminal.warn(
            f"No tool is called {missing}, and the agent does without until one is. There are"
            f" {', '.join(sorted(known))}."
        )
