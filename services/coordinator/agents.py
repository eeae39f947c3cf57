"""Agents: which there are, and which version a task runs."""

import hashlib
from collections.abc import AsyncIterator, Mapping, Sequence
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskWorker
from meshkit import names
from meshkit.clock import Clock
from meshkit.errors import AgentNotFound, AlreadyExists, Conflict, InvalidField, RequestIdReused
from services.coordinator import agent_convert

DEFAULT_AGENT: Final = "assistant"
DEFAULT_MAX_STEPS: Final = 16
# Of an update that others get in the way of.
_MOST_TRIES: Final = 8

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

    async def append(
        self, tenant: str, agent_id: str, agent: Agent, request_id: str, *, after: int
    ) -> None:
        """Stores the version that follows the one stored as `after`; 0 for the first.

        Raises:
            Conflict: Another version follows it already.
        """
        ...

    async def newest(self, tenant: str, agent_id: str) -> tuple[Agent, int] | None:
        """The newest version, and what it is stored as."""
        ...

    async def made_by(self, tenant: str, agent_id: str, request_id: str) -> Agent | None:
        """The version that a request made."""
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
            InvalidField: `agent_id` is malformed, or there is no such worker.
            AlreadyExists: The tenant, or Agentmesh itself, has an agent of that id.
            RequestIdReused: `request_id` created the agent with other content.
        """
        names.check("agent", agent_id, field="agent_id")
        if agent_id in BUILT_IN:
            raise AlreadyExists(f"{agent_id!r} comes with Agentmesh. Choose another agent_id.")
        made = await self._made(tenant, agent_id, spec, request_id)
        if made is not None:
            return made
        await self._check_workers(tenant, agent_id, spec, field="spec")
        agent = self._new(tenant, agent_id, 1, spec)
        try:
            await self._store.append(tenant, agent_id, agent, request_id, after=0)
        except Conflict as conflict:
            made = await self._made(tenant, agent_id, spec, request_id)
            if made is None:
                raise AlreadyExists(
                    f"The agent {agent.name!r} exists. Update it, or choose another agent_id."
                ) from conflict
            return made
        return agent

    async def update(
        self, tenant: str, agent_id: str, spec: AgentSpec, *, etag: str, request_id: str
    ) -> Agent:
        """Creates the next version of an agent.

        Args:
            tenant: Whose agent it is.
            agent_id: Which one.
            spec: What it is from now on.
            etag: Of the version that the caller has seen; empty to follow any.
            request_id: Makes the call repeatable; may be empty.

        Raises:
            InvalidField: The agent comes with Agentmesh, or there is no such worker.
            AgentNotFound: There is no such agent.
            Conflict: `etag` is not that of the newest version.
            RequestIdReused: `request_id` made a version with other content.
        """
        if agent_id in BUILT_IN:
            raise InvalidField(
                "agent.name", f"must not be {agent_id}, which comes with Agentmesh: create your own"
            )
        await self._check_workers(tenant, agent_id, spec, field="agent.spec")
        for _ in range(_MOST_TRIES):
            stored = await self._store.newest(tenant, agent_id)
            if stored is None:
                raise _not_found(tenant, agent_id)
            # After the newest one was read: whatever comes in between is a conflict.
            made = await self._made(tenant, agent_id, spec, request_id)
            if made is not None:
                return made
            newest, after = stored
            if etag and etag != newest.etag:
                raise Conflict(
                    f"{newest.name} has changed: version {newest.version} has the etag"
                    f" {newest.etag!r}, not {etag!r}. Look at it, and update it again."
                )
            agent = self._new(tenant, agent_id, newest.version + 1, spec)
            try:
                await self._store.append(tenant, agent_id, agent, request_id, after=after)
            except Conflict:
                continue  # somebody else was quicker: look at what they did
            return agent
        raise Conflict(f"Agent {agent_id!r} is being changed by others. Try again.")

    async def _made(
        self, tenant: str, agent_id: str, spec: AgentSpec, request_id: str
    ) -> Agent | None:
        """What an earlier call with the same `request_id` made."""
        if not request_id:
            return None
        made = await self._store.made_by(tenant, agent_id, request_id)
        if made is None:
            return None
        if made.etag != _agent(tenant, agent_id, made.version, spec).etag:
            raise RequestIdReused(
                f"request_id {request_id!r} made {made.spec.name!r} with other content."
            )
        return made

    def _new(self, tenant: str, agent_id: str, version: int, spec: AgentSpec) -> Agent:
        agent = _agent(tenant, agent_id, version, spec)
        agent.create_time.FromDatetime(self._clock.now())
        return agent

    async def _check_workers(
        self, tenant: str, agent_id: str, spec: AgentSpec, *, field: str
    ) -> None:
        """Refuses workers that do not exist; an agent may be its own."""
        for index, wanted in enumerate(spec.workers):
            path = f"{field}.workers[{index}]"
            worker_id, version = agent_convert.worker(wanted, tenant=tenant, field=path)
            if worker_id == agent_id and version is None:
                continue
            try:
                await self.get(tenant, worker_id, version)
            except AgentNotFound as error:
                raise InvalidField(path, f"must be an agent that exists: {error}") from error

    async def get(self, tenant: str, agent_id: str, version: int | None) -> Agent:
        """An agent, in its newest or a given version.

        Raises:
            AgentNotFound: There is no such agent or version.
        """
        if agent_id in BUILT_IN:
            if version in (None, 1):
                return _built_in(tenant, agent_id)
        elif version is None:
            newest = await self._store.newest(tenant, agent_id)
            if newest is not None:
                return newest[0]
        else:
            agent = await self._store.version(tenant, agent_id, version)
            if agent is not None:
                return agent
        raise _not_found(tenant, agent_id if version is None else f"{agent_id}@{version}")

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

    async def workers(self, tenant: str, agent: AgentSpec) -> Sequence[TaskWorker]:
        """The exact versions of those that parts of a task of `agent` may go to.

        Raises:
            AgentNotFound: One of them does not exist any more.
        """
        found: list[TaskWorker] = []
        for wanted in agent.workers:
            worker_id, version = agent_convert.worker(wanted, tenant=tenant, field="task.agent")
            spec = (await self.get(tenant, worker_id, version)).spec
            found.append(TaskWorker(name=spec.name, description=spec.description))
        return found


def _not_found(tenant: str, wanted: str) -> AgentNotFound:
    return AgentNotFound(
        f"Tenant {tenant!r} has no agent {wanted!r}. `agentmesh agent list` shows which exist."
    )


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
