"""`agentmesh tool`."""

import json
from typing import Any, cast

import click

from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh tool list", "what agents can do"),
        Example(
            """agentmesh tool call calculator '{"expression": "2480 * 0.175"}'""",
            "call one yourself",
        ),
    ],
)
def tool() -> None:
    """List and call tools."""


@tool.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh tool list", "their names, and what they are for"),
        Example(
            "agentmesh tool list --json | jq .tools[].parameters",
            "the JSON Schema of their arguments",
        ),
    ],
)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the tools of the tenant, the built-in ones included."""
    from cli import tool_calls

    tool_calls.list_tools(invocation)


@tool.command(
    cls=MeshCommand,
    examples=[
        Example(
            """agentmesh tool call calculator '{"expression": "2480 * 0.175"}'""", "exact decimals"
        ),
        Example("agentmesh tool call current_time", "a tool without arguments"),
    ],
)
@click.argument("name", metavar="TOOL")
@click.argument("arguments", default="{}", metavar="[ARGUMENTS]")
@click.option(
    "--idempotency-key",
    default="",
    metavar="KEY",
    help="The same key again is answered from the record of the first call (default: a new one).",
)
@click.option("--session", default="", metavar="NAME", help="The session on whose behalf.")
@pass_invocation
def call(
    invocation: Invocation, name: str, arguments: str, idempotency_key: str, session: str
) -> None:
    """Call a tool and print its result.

    ARGUMENTS is a JSON object, checked against the tool's JSON Schema. The exit
    code is 1 where the tool fails.
    """
    given = _arguments(arguments)

    from cli import tool_calls

    if not tool_calls.call_tool(invocation, name, given, idempotency_key, session):
        raise click.exceptions.Exit(1)


def _arguments(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Problem(
            f"The arguments are not JSON: {error}.",
            """Write them as '{"name": "value"}'.""",
            exit_code=2,
        ) from None
    if not isinstance(value, dict):
        raise Problem(
            f"The arguments must be a JSON object, not {text[:40]!r}.",
            """Write them as '{"name": "value"}'.""",
            exit_code=2,
        )
    return cast(dict[str, Any], value)
