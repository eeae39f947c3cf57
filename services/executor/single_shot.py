"""Single shot: one call of the model, without tools."""

from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from services.executor.react import React


def single_shot(agent: AgentSpec) -> React:
    """ReAct without tools: the first answer is the last."""
    return React(agent, uses_tools=False)
