"""Agents on the command line, and as documents."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh.coordinator.v1 import agent_service_pb2 as pb
from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import AgentLimits, AgentSpec, ContextWindow
from agentmesh.tool.v1.tool_pb2 import Tool
from agentmesh.tool.v1.tool_service_pb2 import ListToolsRequest, ListToolsResponse
from agentmesh.tool.v1.tool_service_pb2_grpc import ToolServiceServicer
from cli import agent_document
from cli.agent_example import EXAMPLE
from cli.command_mesh import Commands, commands_for
from cli.problem import Problem
from meshkit.errors import AgentNotFound, Conflict, Forbidden, InvalidField

_NAME = "tenants/default/agents/clerk"
_CLERK = """\
id: clerk
instructions: |
  Be brief.
  Be kind.
pattern: reflection
tools: [calculator]
limits:
  max_revisions: 3
"""


class _Agents(AgentServiceServicer):
    """The newest version of each agent."""

    def __init__(self) -> None:
        self.stored: dict[str, Agent] = {}
        self.request_ids: list[str] = []

    def _store(self, name: str, spec: AgentSpec, version: int) -> Agent:
        if not spec.instructions:
            raise InvalidField("spec.instructions", "must say what the agent is for")
        agent = Agent(name=name, version=version, spec=spec, etag=f"e{version}")
        agent.spec.name = f"{name}@{version}"
        self.stored[name] = agent
        return agent

    async def CreateAgent(
        self, request: pb.CreateAgentRequest, context: Any
    ) -> pb.CreateAgentResponse:
        self.request_ids.append(request.request_id)
        name = f"{request.parent}/agents/{request.agent_id}"
        return pb.CreateAgentResponse(agent=self._store(name, request.spec, 1))

    async def GetAgent(self, request: pb.GetAgentRequest, context: Any) -> pb.GetAgentResponse:
        if request.name not in self.stored:
            raise AgentNotFound(f"There is no agent {request.name}.")
        return pb.GetAgentResponse(agent=self.stored[request.name])

    async def UpdateAgent(
        self, request: pb.UpdateAgentRequest, context: Any
    ) -> pb.UpdateAgentResponse:
        self.request_ids.append(request.request_id)
        before = self.stored[request.agent.name]
        if request.agent.etag not in ("", before.etag):
            raise Conflict("The agent has changed.")
        agent = self._store(request.agent.name, request.agent.spec, before.version + 1)
        return pb.UpdateAgentResponse(agent=agent)


@pytest.fixture
async def agents() -> _Agents:
    servicer: Any = _Agents  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


class _Tools(ToolServiceServicer):
    """One tool, or none that can be asked for."""

    def __init__(self) -> None:
        self.away = False

    async def ListTools(self, request: ListToolsRequest, context: Any) -> ListToolsResponse:
        if self.away:
            raise Forbidden("The key may not read tools.")
        return ListToolsResponse(tools=[Tool(tool_id="calculator")])


@pytest.fixture
async def tools() -> _Tools:
    servicer: Any = _Tools
    return servicer()


@pytest.fixture
async def commands(agents: _Agents, tools: _Tools) -> AsyncIterator[Commands]:
    async with commands_for(AgentService=agents, ToolService=tools) as commands:
        yield commands


@pytest.fixture
def file(tmp_path: Path) -> Path:
    return _written(tmp_path / "clerk.yaml", _CLERK)


def _written(path: Path, text: str) -> Path:
    path.write_text(text)
    return path


async def test_an_agent_is_created_from_a_document(
    commands: Commands, agents: _Agents, file: Path
) -> None:
    """With all that it says, and shown as it is then."""
    result = await commands.run("agent", "create", "--file", str(file), "--request-id", "r1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert agents.request_ids == ["r1"]
    spec = agents.stored[_NAME].spec
    assert (spec.instructions, list(spec.tools)) == ("Be brief.\nBe kind.\n", ["calculator"])
    assert spec.limits.max_revisions == 3
    lines = [" ".join(line.split()) for line in result.stdout.splitlines()]
    assert "Pattern reflection" in lines
    assert "Limits 3 revisions" in lines
    assert lines[lines.index("Told Be brief.") :] == ["Told Be brief.", "Be kind.", "Etag e1"]


_NO_TOOL = (
    "No tool is called calculater, and the agent does without until one is. There are ask_person,"
    " calculator, delegate, wait.\n"
)


async def test_a_tool_that_nobody_offers_is_told(
    commands: Commands, agents: _Agents, file: Path
) -> None:
    """It may yet come, so that the agent is made all the same."""
    result = await commands.run(
        "agent", "create", "clerk", "--instructions", "x", "--tool", "wait", "--tool", "calculater"
    )
    assert (result.exit_code, result.stderr) == (0, _NO_TOOL)
    assert list(agents.stored[_NAME].spec.tools) == ["wait", "calculater"]
    _written(file, _CLERK.replace("calculator", "calculater"))
    result = await commands.run("agent", "update", "--file", str(file))
    assert (result.exit_code, result.stderr) == (0, _NO_TOOL)


async def test_nothing_is_said_of_tools_where_nobody_can_be_asked(
    commands: Commands, tools: _Tools, file: Path
) -> None:
    """Such as with a key that may write agents alone."""
    tools.away = True
    result = await commands.run("agent", "create", "--file", str(file))
    assert (result.exit_code, result.stderr) == (0, "")


async def test_an_agent_of_the_single_shot_pattern_is_shown_without_tools(
    commands: Commands,
) -> None:
    """It is offered none, whatever the tenant has."""
    result = await commands.run(
        "agent", "create", "clerk", "--instructions", "x", "--pattern", "single-shot"
    )
    assert "Tools    none" in result.stdout.splitlines()


async def test_what_is_shown_as_a_document_updates_the_agent(
    commands: Commands, agents: _Agents, file: Path
) -> None:
    """Unless somebody was quicker: the document has the etag of what was shown."""
    await commands.run("agent", "create", "--file", str(file))
    shown = await commands.run("agent", "show", "clerk", "--yaml")
    assert shown.exit_code == 0
    _written(file, shown.stdout.replace("Be kind.", "Be bold."))
    result = await commands.run("agent", "update", "--file", str(file), "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    assert json.loads(result.stdout)["agent"]["version"] == 2
    assert agents.stored[_NAME].spec.instructions == "Be brief.\nBe bold.\n"
    again = await commands.run("agent", "update", "--file", str(file))
    assert (again.exit_code, again.stderr) == (1, "error: The agent has changed. (CONFLICT)\n")


async def test_a_wrong_value_is_told_by_the_mesh(commands: Commands, file: Path) -> None:
    """What the values may be is nowhere else."""
    _written(file, "id: clerk\ndescription: x\n")
    result = await commands.run("agent", "create", "--file", str(file))
    assert result.exit_code == 1
    assert "spec.instructions: must say what the agent is for" in result.stderr


@pytest.mark.parametrize(
    ("line", "error"),
    [
        (
            ["create", "other", "--file", "FILE"],
            "error: FILE is about clerk, not other.\n",
        ),
        (
            ["create", "--file", "FILE", "--tool", "calculator"],
            "error: --tool has no meaning with --file.\n",
        ),
        (["create"], "error: An agent needs an ID, or a --file that names it.\n"),
        (
            ["create", "a"],
            "error: An agent needs --instructions or --instructions-file, one of them.\n",
        ),
    ],
)
async def test_a_command_that_could_mean_two_things_is_refused(
    commands: Commands, file: Path, line: list[str], error: str
) -> None:
    """Before anything is sent."""
    words = [str(file) if word == "FILE" else word for word in line]
    result = await commands.run("agent", *words)
    assert (result.exit_code, result.stderr) == (2, error.replace("FILE", str(file)))


async def test_the_example_is_printed_as_it_stands_or_as_json(commands: Commands) -> None:
    """Both describe the same agent."""
    plain = await commands.run("agent", "example")
    assert (plain.exit_code, plain.stdout) == (0, EXAMPLE)
    as_json = await commands.run("agent", "example", "--json")
    agent = json.loads(as_json.stdout)["agent"]
    assert agent["name"] == "tenants/default/agents/researcher"
    assert agent["spec"]["limits"]["max_workers"] == 4


def test_the_example_has_every_field() -> None:
    """Each of the contract's, set but for what no one agent can have with the others."""
    spec = agent_document.from_text(EXAMPLE, "example").spec
    for message in (AgentSpec, AgentLimits, ContextWindow):
        for field in message.DESCRIPTOR.fields:
            assert field.name == "name" or f"{field.name}:" in EXAMPLE
    unset = {field.name for field in AgentSpec.DESCRIPTOR.fields} - {
        field.name for field, _ in spec.ListFields()
    }
    assert unset == {"name"}


def test_a_document_says_again_what_it_said() -> None:
    """Through an agent and back; the schema stays a mapping."""
    spec = agent_document.from_text(EXAMPLE, "example").spec
    agent = Agent(name="tenants/default/agents/researcher", spec=spec, etag="e1")
    text = agent_document.to_yaml(agent)
    again = agent_document.from_text(text, "again")
    assert (again.spec, again.agent_id, again.etag) == (spec, "researcher", "e1")
    assert "output_schema:\n  type: object\n" in text
    assert "instructions: |\n  You answer" in text


@pytest.mark.parametrize(
    ("text", "message", "remedy"),
    [
        (
            "id: a\ninstructions: x\ntool: [a]\n",
            "f:3: tool is not known.",
            "Did you mean tools? Known are id, instructions, pattern, tools, tier, max_steps,"
            " lane, output_schema, description, use_session_memory, limits, workers, context,"
            " etag.",
        ),
        (
            "id: a\nlimits:\n  max_token: 5\n",
            "f:3: limits.max_token is not known.",
            "Did you mean max_tokens? Known are max_output_tokens, max_tokens, max_cost_micros,"
            " max_revisions, max_workers, worker_max_tokens, worker_max_cost_micros.",
        ),
        ("id: a\nid: b\n", "f:2: id is given twice.", ""),
        (
            "pattern: reakt\n",
            "f:1: pattern must be one of single-shot, react, plan-and-execute, reflection,"
            " supervisor, not reakt.",
            "",
        ),
        ("tools: calculator\n", "f:1: tools must be a list, such as [tool].", ""),
        ("tools: [a, 1]\n", "f:1: tools[1] must be text, not 1.", "Put it in quotes."),
        ("max_steps: many\n", "f:1: max_steps must be a whole number, not 'many'.", ""),
        ("max_steps: true\n", "f:1: max_steps must be a whole number, not True.", ""),
        ("max_steps: 99999999999\n", "f:1: max_steps is too large: 99999999999.", ""),
        (
            "use_session_memory: 1\n",
            "f:1: use_session_memory must be true or false, not 1.",
            "",
        ),
        ("limits: 5\n", "f:1: limits must be a mapping.", ""),
        ("instructions: 5\n", "f:1: instructions must be text, not 5.", "Put it in quotes."),
        (
            "output_schema: [1]\n",
            "f:1: output_schema must be a JSON Schema: a mapping, or JSON as text.",
            "",
        ),
        ("- a\n", "f: is no agent.", "Begin with what `agentmesh agent example` prints."),
        ("", "f: is no agent.", "Begin with what `agentmesh agent example` prints."),
    ],
)
def test_a_wrong_document_is_told_with_its_line(text: str, message: str, remedy: str) -> None:
    """And with what may have been meant."""
    with pytest.raises(Problem) as caught:
        agent_document.from_text(text, "f")
    assert (caught.value.message, caught.value.remedy) == (message, remedy)


def test_what_is_no_yaml_is_told() -> None:
    """In one line, with the place."""
    with pytest.raises(Problem, match=r"^f: is no YAML: .*line 1, column 6") as caught:
        agent_document.from_text("a: [1", "f")
    assert "\n" not in caught.value.message
