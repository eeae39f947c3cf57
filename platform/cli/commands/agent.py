"""`agentmesh agent`."""

from collections.abc import Sequence
from pathlib import Path

import click

from cli.choices import LANES, PATTERNS, TIERS
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.text_file import read_text


@click.group(
    cls=MeshGroup,
    examples=[Example("agentmesh agent list", "who can be asked")],
)
def agent() -> None:
    """List, show and create agents: instructions, tools and limits, in immutable versions."""


@agent.command(
    "list",
    cls=MeshCommand,
    examples=[Example("agentmesh agent list --json", "with all their settings")],
)
@pass_invocation
def list_(invocation: Invocation) -> None:
    """List the agents of the tenant, the built-in ones included."""
    from cli import agent_calls

    agent_calls.list_agents(invocation)


@agent.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh agent get assistant", "the newest version"),
        Example("agentmesh agent get assistant@1", "an older one"),
    ],
)
@click.argument("name", metavar="AGENT")
@pass_invocation
def get(invocation: Invocation, name: str) -> None:
    """Print an agent."""
    from cli import agent_calls

    agent_calls.get(invocation, invocation.name("agents", name))


@agent.command(
    cls=MeshCommand,
    examples=[
        Example(
            'agentmesh agent create clerk --instructions "Be brief." --tool calculator',
            "an agent that has a calculator and nothing else",
        ),
        Example(
            'agentmesh agent create clerk --instructions "Ask." --tool ask_person --tool wait',
            "an agent that asks people, and waits for them",
        ),
        Example(
            "agentmesh agent create librarian --instructions-file librarian.md --lane interactive",
            "with its instructions in a file",
        ),
    ],
)
@click.argument("agent_id", metavar="ID")
@click.option("--instructions", metavar="TEXT", help="What the agent is told before anything else.")
@click.option(
    "--instructions-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same, from a file.",
)
@click.option(
    "--description", default="", metavar="TEXT", help="One sentence for people who choose an agent."
)
@click.option(
    "--pattern",
    type=click.Choice(list(PATTERNS)),
    default="react",
    show_default=True,
    help="How it goes about its work.",
)
@click.option(
    "--tool",
    "tools",
    multiple=True,
    metavar="NAME",
    help="A tool it may call; all, if none is named, but for ask_person, wait and delegate,"
    " which make a task wait and must be named. Repeatable.",
)
@click.option(
    "--tier",
    type=click.Choice(list(TIERS)),
    help="The tier of its model calls (default: each call is classified).",
)
@click.option(
    "--lane", type=click.Choice(list(LANES)), help="Its default lane (default: standard)."
)
@click.option(
    "--max-steps",
    type=click.IntRange(1, 1000),
    metavar="N",
    help="The most steps of a task (default: 16).",
)
@click.option(
    "--session-memory/--no-session-memory",
    default=True,
    show_default=True,
    help="Whether tasks with a session read and write its memory.",
)
@click.option("--request-id", default="", metavar="ID", help="Makes the call repeatable.")
@pass_invocation
def create(
    invocation: Invocation,
    agent_id: str,
    instructions: str | None,
    instructions_file: Path | None,
    description: str,
    pattern: str,
    tools: Sequence[str],
    tier: str | None,
    lane: str | None,
    max_steps: int | None,
    session_memory: bool,
    request_id: str,
) -> None:
    """Create an agent under ID, as version 1."""
    if (instructions is None) == (instructions_file is None):
        raise Problem(
            "An agent needs --instructions or --instructions-file, one of them.", exit_code=2
        )
    text = instructions if instructions_file is None else read_text(instructions_file)

    from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
    from cli import agent_calls

    request = CreateAgentRequest(parent=invocation.parent, agent_id=agent_id, request_id=request_id)
    spec = request.spec
    spec.instructions = text or ""
    spec.description = description
    spec.pattern = PATTERNS[pattern]
    spec.tools.extend(tools)
    if tier:
        spec.tier = TIERS[tier]
    if lane:
        spec.lane = LANES[lane]
    spec.max_steps = max_steps or 0
    spec.use_session_memory = session_memory
    agent_calls.create(invocation, request)
