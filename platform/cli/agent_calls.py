"""The calls of `agentmesh agent`, and what they print."""

import uuid
from collections.abc import Iterator, Sequence
from typing import Final

from agentmesh.coordinator.v1.agent_service_pb2 import (
    Agent,
    CreateAgentRequest,
    GetAgentRequest,
    ListAgentsRequest,
    UpdateAgentRequest,
)
from agentmesh.coordinator.v1.task_event_pb2 import (
    AgentLimits,
    AgentPattern,
    AgentSpec,
    ContextWindow,
)
from cli import offered_tools
from cli.agent_document import from_text, to_yaml
from cli.agent_example import EXAMPLE
from cli.event_line import lane_name, tier_name
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.wording import dollars

_MAX_AGENTS: Final = 100_000


def list_agents(invocation: Invocation) -> None:
    """Prints all agents."""

    async def run(gateway: Gateway) -> list[Agent]:
        request = ListAgentsRequest(parent=invocation.parent)
        return await collect(
            gateway.agents.ListAgents, request, lambda page: page.agents, limit=_MAX_AGENTS
        )

    agents = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"agents": [to_plain(each) for each in agents]})
    else:
        invocation.terminal.table(
            ("AGENT", "PATTERN", "TOOLS", "LANE", "DESCRIPTION"), _rows(agents)
        )


def show(invocation: Invocation, name: str, *, as_yaml: bool) -> None:
    """Prints one agent, as a table or as the document that makes it."""
    agent = _get(invocation, name)
    if as_yaml and not invocation.terminal.as_json:
        invocation.terminal.say(to_yaml(agent))
    else:
        _show(invocation, agent)


def example(invocation: Invocation) -> None:
    """Prints a document with every field."""
    if invocation.terminal.as_json:
        document = from_text(EXAMPLE, "example")
        agent = Agent(name=f"{invocation.parent}/agents/{document.agent_id}", spec=document.spec)
        invocation.terminal.document({"agent": to_plain(agent)})
    else:
        invocation.terminal.say(EXAMPLE.rstrip("\n"))


def _get(invocation: Invocation, name: str) -> Agent:

    async def run(gateway: Gateway) -> Agent:
        return (
            await gateway.agents.GetAgent(GetAgentRequest(name=name), timeout=CALL_SECONDS)
        ).agent

    return call(address_of(invocation), invocation.tenant, run)


def create(invocation: Invocation, request: CreateAgentRequest) -> None:
    """Creates an agent and prints it."""
    request.request_id = request.request_id or f"cli-{uuid.uuid4()}"

    async def run(gateway: Gateway) -> Agent:
        agent = (await gateway.agents.CreateAgent(request, timeout=CALL_SECONDS)).agent
        await offered_tools.warn(invocation.terminal, gateway, invocation.parent, agent.spec.tools)
        return agent

    _show(invocation, call(address_of(invocation), invocation.tenant, run))


def update(invocation: Invocation, request: UpdateAgentRequest) -> None:
    """Gives an agent a new version and prints it."""
    request.request_id = request.request_id or f"cli-{uuid.uuid4()}"

    async def run(gateway: Gateway) -> Agent:
        agent = (await gateway.agents.UpdateAgent(request, timeout=CALL_SECONDS)).agent
        await offered_tools.warn(invocation.terminal, gateway, invocation.parent, agent.spec.tools)
        return agent

    _show(invocation, call(address_of(invocation), invocation.tenant, run))


def _show(invocation: Invocation, agent: Agent) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.document({"agent": to_plain(agent)})
        return
    spec = agent.spec
    invocation.terminal.fields(
        [
            ("Agent", agent.name),
            ("Version", f"{agent.version}{', built in' if agent.built_in else ''}"),
            ("About", spec.description),
            ("Pattern", _pattern(spec.pattern)),
            ("Tools", _tools(spec, "all of the tenant")),
            ("Tier", tier_name(spec.tier) or "classified for each call"),
            ("Lane", lane_name(spec.lane) if spec.lane else "standard"),
            ("Steps", f"{spec.max_steps or 16} at most"),
            ("Limits", ", ".join(_limits(spec.limits))),
            ("Workers", ", ".join(spec.workers)),
            ("Context", ", ".join(_context(spec.context))),
            ("Answers", spec.output_schema),
            ("Memory", "of its session" if spec.use_session_memory else "none"),
            ("Told", spec.instructions.rstrip()),
            ("Etag", agent.etag),
        ]
    )


def _limits(limits: AgentLimits) -> Iterator[str]:
    for value, what in (
        (limits.max_output_tokens, "tokens an answer"),
        (limits.max_tokens, "tokens a task"),
        (limits.max_revisions, "revisions"),
        (limits.max_workers, "parts at a time"),
        (limits.worker_max_tokens, "tokens a worker"),
    ):
        if value:
            yield f"{value:,} {what}"
    if limits.max_cost_micros:
        yield f"{dollars(limits.max_cost_micros)} a task"
    if limits.worker_max_cost_micros:
        yield f"{dollars(limits.worker_max_cost_micros)} a worker"


def _context(context: ContextWindow) -> Iterator[str]:
    if context.max_tokens:
        yield f"{context.max_tokens:,} tokens at most"
    if context.full_messages:
        yield f"{context.full_messages} newest messages whole"


def _rows(agents: Sequence[Agent]) -> list[tuple[str, str, str, str, str]]:
    return [
        (
            f"{agent.name.rsplit('/', 1)[-1]}@{agent.version}",
            _pattern(agent.spec.pattern),
            _tools(agent.spec, "all"),
            lane_name(agent.spec.lane) if agent.spec.lane else "standard",
            agent.spec.description,
        )
        for agent in agents
    ]


def _tools(spec: AgentSpec, every: str) -> str:
    if spec.pattern == AgentPattern.AGENT_PATTERN_SINGLE_SHOT:
        return "none"
    return ", ".join(spec.tools) or every


def _pattern(pattern: int) -> str:
    if not pattern:
        return "react"
    return AgentPattern.Name(pattern).removeprefix("AGENT_PATTERN_").lower().replace("_", "-")
