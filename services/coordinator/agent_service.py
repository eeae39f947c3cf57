"""AgentService: decodes, calls the registry of agents, encodes."""

from typing import Any

from agentmesh.coordinator.v1 import agent_service_pb2 as pb
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceServicer
from meshkit import identity, names, page_token
from services.coordinator import agent_convert, convert
from services.coordinator.agents import Agents

# grpc.aio's context has one type parameter pair per method; nothing here uses them.
_Context = Any


class AgentServicer(AgentServiceServicer):
    """The registry of agents at the wire."""

    def __init__(self, agents: Agents) -> None:
        self._agents = agents

    async def CreateAgent(
        self, request: pb.CreateAgentRequest, context: _Context
    ) -> pb.CreateAgentResponse:
        tenant = convert.tenant(request.parent)
        spec = agent_convert.agent_spec(request.spec, tenant=tenant)
        request_id = convert.header_request_id(request.request_id)
        agent = await self._agents.create(tenant, request.agent_id, spec, request_id)
        return pb.CreateAgentResponse(agent=agent)

    async def GetAgent(self, request: pb.GetAgentRequest, context: _Context) -> pb.GetAgentResponse:
        tenant, agent_id, version = names.parse_agent(request.name, field="name")
        identity.require_tenant(request.name)
        return pb.GetAgentResponse(agent=await self._agents.get(tenant, agent_id, version))

    async def ListAgents(
        self, request: pb.ListAgentsRequest, context: _Context
    ) -> pb.ListAgentsResponse:
        tenant = convert.tenant(request.parent)
        query = page_token.query_of(request)
        after = page_token.decode(query, request.page_token) or ""
        limit = page_token.page_size(request.page_size, default=50)
        agents = [agent for agent in await self._agents.list(tenant) if agent.name > after]
        more = len(agents) > limit
        following = page_token.encode(query, agents[limit - 1].name) if more else ""
        return pb.ListAgentsResponse(agents=agents[:limit], next_page_token=following)

    async def UpdateAgent(
        self, request: pb.UpdateAgentRequest, context: _Context
    ) -> pb.UpdateAgentResponse:
        wanted = request.agent
        tenant, agent_id = names.AGENT.parse(wanted.name, field="agent.name")
        identity.require_tenant(wanted.name)
        spec = agent_convert.agent_spec(wanted.spec, tenant=tenant, field="agent.spec")
        request_id = convert.header_request_id(request.request_id)
        agent = await self._agents.update(
            tenant, agent_id, spec, etag=wanted.etag, request_id=request_id
        )
        return pb.UpdateAgentResponse(agent=agent)
