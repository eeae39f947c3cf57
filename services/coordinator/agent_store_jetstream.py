"""Agents on a JetStream stream of their own: one subject an agent, one message a version."""

from collections import OrderedDict
from collections.abc import AsyncIterator
from typing import Final

from agentmesh.coordinator.v1.agent_service_pb2 import Agent
from meshkit.bus import Bus, StreamSpec

_STREAM: Final = "AGENTS"
_REQUEST_ID: Final = "Agentmesh-Request-Id"
_MAX_KEPT: Final = 1_000


class JetStreamAgentStore:
    """An AgentStore. The messages of a subject are the versions, in order."""

    def __init__(self, bus: Bus) -> None:
        self._bus = bus
        # By tenant, agent and number. A version never changes.
        self._versions: OrderedDict[tuple[str, str, int], Agent] = OrderedDict()

    async def prepare(self) -> None:
        """Creates the stream, or brings it up to date."""
        await self._bus.ensure_stream(
            StreamSpec(
                name=_STREAM,
                subjects=("agent.*.*",),
                max_age_seconds=None,
                max_bytes=None,
                duplicate_window_seconds=10,
                republish=None,
                description="Every version of every agent. Append with compare-and-set only.",
            )
        )

    async def append(
        self, tenant: str, agent_id: str, agent: Agent, request_id: str, *, after: int
    ) -> None:
        """Stores the version that follows the one stored as `after`; 0 for the first."""
        await self._bus.append(
            f"agent.{tenant}.{agent_id}",
            agent.SerializeToString(),
            expected_last=after,
            headers={_REQUEST_ID: request_id} if request_id else {},
        )

    async def newest(self, tenant: str, agent_id: str) -> tuple[Agent, int] | None:
        """The newest version, and what it is stored as."""
        message = await self._bus.last(_STREAM, f"agent.{tenant}.{agent_id}")
        if message is None:
            return None
        return Agent.FromString(message.payload), message.sequence

    async def made_by(self, tenant: str, agent_id: str, request_id: str) -> Agent | None:
        """The version that a request made."""
        async for message in self._bus.read(_STREAM, f"agent.{tenant}.{agent_id}"):
            if message.headers.get(_REQUEST_ID) == request_id:
                return Agent.FromString(message.payload)
        return None

    async def version(self, tenant: str, agent_id: str, version: int) -> Agent | None:
        """One version."""
        kept = self._versions.get((tenant, agent_id, version))
        if kept is not None:
            self._versions.move_to_end((tenant, agent_id, version))
            return kept
        async for message in self._bus.read(_STREAM, f"agent.{tenant}.{agent_id}"):
            agent = Agent.FromString(message.payload)
            if agent.version == version:
                self._versions[tenant, agent_id, version] = agent
                if len(self._versions) > _MAX_KEPT:
                    self._versions.popitem(last=False)
                return agent
        return None

    async def list(self, tenant: str) -> AsyncIterator[Agent]:
        """The newest version of each agent."""
        newest: dict[str, Agent] = {}
        async for message in self._bus.read(_STREAM, f"agent.{tenant}.*"):
            agent = Agent.FromString(message.payload)
            newest[agent.name] = agent
        for agent in newest.values():
            yield agent
