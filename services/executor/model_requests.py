"""What one attempt asks its model: each request is the one before it, and what was said since."""

from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Message
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from services.executor import conversation
from services.executor.journal import Journal


class ModelRequests:
    """Adds to one request step by step, so that a step builds only what is new."""

    def __init__(
        self, journal: Journal, tools: Mapping[str, tool_pb2.Tool], earlier: Sequence[Message]
    ) -> None:
        """`earlier`: what was said in the session before the task."""
        self._journal: Final = journal
        # So many events of the log are part of the request.
        self._told = 0
        task, agent = journal.task, journal.agent
        self._request: Final = reasoning.GenerateRequest(
            tier=agent.tier,
            task_type=task.task_type or agent_id(agent.name),
            agent=agent_id(agent.name),
            session=task.session,
            lane=task.lane,
        )
        self._request.task_budget.task = task.name
        self._request.parameters.output_schema = agent.output_schema
        for tool in tools.values():
            spec = self._request.tools.add(name=tool.tool_id, description=tool.description)
            spec.parameters.CopyFrom(tool.parameters)
        conversation.begin(self._request.messages, agent, earlier, task)

    def next(self) -> reasoning.GenerateRequest:
        """The request for the task's next step. The one after that is the same message."""
        journal, request = self._journal, self._request
        conversation.go_on(request.messages, journal.events[self._told :])
        self._told = len(journal.events)
        status, task = journal.status, journal.task
        request.spend_key = f"{journal.task_id}/{status.steps + 1}/{journal.start_sequence}"
        if task.budget_micros:
            request.task_budget.limit_micros = task.budget_micros
            request.task_budget.spent_micros = status.usage.cost_micros
        return request


def agent_id(name: str) -> str:
    """`assistant` of `tenants/acme/agents/assistant@1`."""
    return name.rpartition("/")[2].partition("@")[0]
