"""ReAct: the model and its tools in turn, until the model answers.

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models" (2022).
"""

from collections.abc import Sequence
from dataclasses import dataclass

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, ChildResult
from services.executor.pattern import Ask, Ending


@dataclass(frozen=True, slots=True)
class React:
    """One question to the model, which may call tools before it answers."""

    agent: AgentSpec
    uses_tools: bool = True

    def next(self) -> Ask:
        """The request itself, as long as the task runs."""
        return Ask(
            task_event_pb2.MODEL_PHASE_UNSPECIFIED,
            output_schema=self.agent.output_schema,
            ending=Ending(),
        )

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Never: the answer ends the task."""

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Never: nothing is handed out."""
