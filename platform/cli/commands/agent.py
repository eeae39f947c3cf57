"""`agentmesh agent`."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

import click

from cli.choices import LANES, PATTERNS, TIERS
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.text_file import read_text

# What may stand beside --file; the common options have no value of their own here.
_BESIDE_FILE: Final = (
    "agent_id", "file", "request_id", "data_dir", "port", "gateway", "tenant", "json",
)  # fmt: skip


@click.group(
    cls=MeshGroup,
    examples=[Example("agentmesh agent list", "who can be asked")],
)
def agent() -> None:
    """List, show, create and update agents: instructions, pattern, tools and limits."""


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
        Example("agentmesh agent show assistant", "the newest version"),
        Example("agentmesh agent show assistant@1", "an older one"),
        Example("agentmesh agent show clerk --yaml > clerk.yaml", "as a document to change"),
    ],
)
@click.argument("name", metavar="AGENT")
@click.option("--yaml", "as_yaml", is_flag=True, help="As the document that makes it.")
@pass_invocation
def show(invocation: Invocation, name: str, as_yaml: bool) -> None:
    """Print an agent."""
    from cli import agent_calls

    agent_calls.show(invocation, invocation.name("agents", name), as_yaml=as_yaml)


@agent.command(
    cls=MeshCommand, examples=[Example("agentmesh agent get assistant", "the newest version")]
)
@click.argument("name", metavar="AGENT")
@pass_invocation
def get(invocation: Invocation, name: str) -> None:
    """Print an agent, as `show` does."""
    from cli import agent_calls

    agent_calls.show(invocation, invocation.name("agents", name), as_yaml=False)


@agent.command(
    cls=MeshCommand,
    examples=[Example("agentmesh agent example > agent.yaml", "to begin with")],
)
@pass_invocation
def example(invocation: Invocation) -> None:
    """Print a document with every field of an agent, each explained."""
    from cli import agent_calls

    agent_calls.example(invocation)


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
        Example("agentmesh agent create --file agent.yaml", "with every setting in a file"),
    ],
)
@click.argument("agent_id", metavar="[ID]", required=False, default="")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="A document with the whole agent, in place of the options below;"
    " `agentmesh agent example` prints one.",
)
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
    file: Path | None,
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
    if file is not None:
        _refuse_beside_file()
        _create_from(invocation, file, agent_id, request_id)
        return
    if not agent_id:
        raise Problem("An agent needs an ID, or a --file that names it.", exit_code=2)
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


@agent.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh agent update --file agent.yaml", "as the document says"),
        Example(
            "agentmesh agent update clerk --file agent.yaml --etag 0123456789abcdef",
            "unless somebody else changed it meanwhile",
        ),
    ],
)
@click.argument("agent_id", metavar="[ID]", required=False, default="")
@click.option(
    "--file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    required=True,
    help="A document with the whole agent; `agentmesh agent show ID --yaml` prints what it is now.",
)
@click.option(
    "--etag",
    default="",
    metavar="ETAG",
    help="Of the version that was changed, where the document does not say: another one is not"
    " followed.",
)
@click.option("--request-id", default="", metavar="ID", help="Makes the call repeatable.")
@pass_invocation
def update(invocation: Invocation, agent_id: str, file: Path, etag: str, request_id: str) -> None:
    """Give an agent a new version. Tasks keep the version that they began with."""
    from agentmesh.coordinator.v1.agent_service_pb2 import Agent, UpdateAgentRequest
    from cli import agent_calls, agent_document

    document = agent_document.from_text(read_text(file), str(file))
    name = f"{invocation.parent}/agents/{_one_id(agent_id, document.agent_id, file)}"
    agent = Agent(name=name, spec=document.spec, etag=etag or document.etag)
    agent_calls.update(invocation, UpdateAgentRequest(agent=agent, request_id=request_id))


def _create_from(invocation: Invocation, file: Path, agent_id: str, request_id: str) -> None:
    from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
    from cli import agent_calls, agent_document

    document = agent_document.from_text(read_text(file), str(file))
    request = CreateAgentRequest(
        parent=invocation.parent,
        agent_id=_one_id(agent_id, document.agent_id, file),
        spec=document.spec,
        request_id=request_id,
    )
    agent_calls.create(invocation, request)


def _one_id(given: str, written: str, file: Path) -> str:
    """The id on the command line or in the document: they must not differ."""
    if given and written and given != written:
        raise Problem(f"{file} is about {written}, not {given}.", exit_code=2)
    if not given and not written:
        raise Problem(f"{file} does not say the agent's id.", "Name it: ID or `id:`.", exit_code=2)
    return given or written


def _refuse_beside_file() -> None:
    """Refuses settings beside a document: nobody could tell which one counts."""
    context = click.get_current_context()
    for parameter in context.command.params:
        name = parameter.name or ""
        source = context.get_parameter_source(name)
        if name not in _BESIDE_FILE and source is click.core.ParameterSource.COMMANDLINE:
            raise Problem(f"{parameter.opts[0]} has no meaning with --file.", exit_code=2)
