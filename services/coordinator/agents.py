"""Agents: which there are, and which version a task runs."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import AgentNotFound, AlreadyExists, Conflict, InvalidField, RequestIdReused

DEFAULT_AGENT: Final = "assistant"
DEFAULT_MAX_STEPS: Final = 16

BUILT_IN: Final[Mapping[str, AgentSpec]] = {
    DEFAULT_AGENT: AgentSpec(
        description="Answers questions with the tenant's documents and tools.",
        instructions=(
            "You are a careful assistant. Answer every part of the request. Use the"
            " calculator for arithmetic and search_memory for anything that the user's"
            " documents may say; cite what you use. Say so plainly when the documents"
            " do not answer a question, and never guess."
        ),
        pattern=task_event_pb2.AGENT_PATTERN_REACT,
        max_steps=DEFAULT_MAX_STEPS,
        lane=tier_pb2.LANE_STANDARD,
        use_session_memory=True,
    )
}


class AgentStore(Protocol):
    """Keeps every version of every agent."""

    async def create(self, tenant: str, agent_id: str, agent: Agent, request_id: str) -> None:
        """Stores version 1; Conflict if the agent exists."""
        ...

    async def get(self, tenant: str, agent_id: str) -> tuple[Agent, str] | None:
        """The newest version, and the request id that made it."""
        ...

    async def version(self, tenant: str, agent_id: str, version: int) -> Agent | None:
        """One version."""
        ...

    def list(self, tenant: str) -> AsyncIterator[Agent]:
        """The newest version of each agent, in no order."""
        ...


class Agents:
    """The agents of all tenants, the built-in ones included."""

    def __init__(self, store: AgentStore, clock: Clock) -> None:
        self._store = store
        self._clock = clock

    async def create(self, tenant: str, agent_id: str, spec: AgentSpec, request_id: str) -> Agent:
        """Creates version 1 of an agent.

        Raises:
            InvalidField: `agent_id` is malformed.
            AlreadyExists: The tenant, or Agentmesh itself, has an agent of that id.
            RequestIdReused: `request_id` created the agent with other content.
        """
        names.check("agent", agent_id, field="agent_id")
        if agent_id in BUILT_IN:
            raise AlreadyExists(f"{agent_id!r} comes with Agentmesh. Choose another agent_id.")
        agent = _agent(tenant, agent_id, 1, spec)
        agent.create_time.FromDatetime(self._clock.now())
        try:
            await self._store.create(tenant, agent_id, agent, request_id)
        except Conflict as conflict:
            existing = await self._store.get(tenant, agent_id)
            if existing is None:
                raise
            found, made_by = existing
            if not request_id or made_by != request_id:
                raise AlreadyExists(
                    f"The agent {found.name!r} exists. Update it, or choose another agent_id."
                ) from conflict
            if found.etag != agent.etag:
                raise RequestIdReused(
                    f"request_id {request_id!r} created {found.name!r} with other content."
                ) from conflict
            return found
        return agent

    async def get(self, tenant: str, agent_id: str, version: int | None) -> Agent:
        """An agent, in its newest or a given version.

        Raises:
            AgentNotFound: There is no such agent or version.
        """
        if agent_id in BUILT_IN:
            if version in (None, 1):
                return _built_in(tenant, agent_id)
        elif version is None:
            newest = await self._store.get(tenant, agent_id)
            if newest is not None:
                return newest[0]
        else:
            agent = await self._store.version(tenant, agent_id, version)
            if agent is not None:
                return agent
        wanted = agent_id if version is None else f"{agent_id}@{version}"
        raise AgentNotFound(
            f"Tenant {tenant!r} has no agent {wanted!r}. `agentmesh agent list` shows which exist."
        )

    async def list(self, tenant: str) -> Sequence[Agent]:
        """All agents of a tenant in order of their ids."""
        agents = [_built_in(tenant, agent_id) for agent_id in BUILT_IN]
        agents.extend([agent async for agent in self._store.list(tenant)])
        return sorted(agents, key=lambda agent: agent.name)

    async def resolve(self, tenant: str, wanted: str) -> AgentSpec:
        """The exact version that a task runs, from what its submitter wrote.

        Args:
            tenant: Whose task it is.
            wanted: Empty, `agent`, `agent@version`, or either as a full name.

        Raises:
            InvalidField: `wanted` is malformed, or names another tenant's agent.
            AgentNotFound: There is no such agent or version.
        """
        name = wanted or DEFAULT_AGENT
        if "/" not in name:
            name = f"tenants/{tenant}/agents/{name}"
        owner, agent_id, version = names.parse_agent(name, field="task.agent")
        if owner != tenant:
            raise InvalidField("task.agent", f"must be an agent of tenant {tenant!r}")
        agent = await self.get(tenant, agent_id, version)
        return agent.spec


def _agent(tenant: str, agent_id: str, version: int, spec: AgentSpec) -> Agent:
    agent = Agent(name=names.AGENT.format(tenant=tenant, agent=agent_id), version=version)
    agent.spec.CopyFrom(spec)
    agent.spec.max_steps = spec.max_steps or DEFAULT_MAX_STEPS
    agent.spec.pattern = spec.pattern or task_event_pb2.AGENT_PATTERN_REACT
    agent.spec.lane = spec.lane or tier_pb2.LANE_STANDARD
    agent.spec.name = f"{agent.name}@{version}"
    agent.etag = hashlib.sha256(agent.spec.SerializeToString(deterministic=True)).hexdigest()[:16]
    return agent


def _built_in(tenant: str, agent_id: str) -> Agent:
    agent = _agent(tenant, agent_id, 1, BUILT_IN[agent_id])
    agent.built_in = True
    return agent
