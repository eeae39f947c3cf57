"""ReAct: the model and its tools in turn, until the model answers.

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models" (2022).
"""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, ChildResult
from services.executor.pattern import Ask, Ending


class React:
    """One question to the model, which may call tools before it answers."""

    def __init__(self, agent: AgentSpec, *, uses_tools: bool = True) -> None:
        self._ask: Final = Ask(
            task_event_pb2.MODEL_PHASE_UNSPECIFIED,
            output_schema=agent.output_schema,
            ending=Ending(),
        )
        self._uses_tools: Final = uses_tools

    @property
    def uses_tools(self) -> bool:
        """Whether the model is offered the agent's tools."""
        return self._uses_tools

    def next(self) -> Ask:
        """The request itself, as long as the task runs."""
        return self._ask

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Never: the answer ends the task."""

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Never: nothing is handed out."""
