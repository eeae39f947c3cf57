"""Reflection: a draft, a critic, and a bounded number of revisions.

After Madaan et al., "Self-Refine: Iterative Refinement with Self-Feedback" (2023).
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, ChildResult
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from services.executor import phase_answers, phase_instructions
from services.executor.pattern import Ask, Ending, Finish

DEFAULT_MAX_REVISIONS: Final = 2


class _Stage(Enum):
    DRAFT = auto()
    CRITIQUE = auto()
    REVISION = auto()
    END = auto()


class Reflection:
    """The newest draft, and what its critic said."""

    def __init__(self, agent: AgentSpec) -> None:
        self._agent: Final = agent
        self._max_revisions: Final = agent.limits.max_revisions or DEFAULT_MAX_REVISIONS
        self._stage = _Stage.DRAFT
        self._draft = ""
        self._citations: Sequence[Citation] = ()
        self._problems: Sequence[str] = ()
        self._revisions = 0
        self._ending = Ending()

    @property
    def uses_tools(self) -> bool:
        """It does, in every phase: requests that begin alike are quicker and cheaper."""
        return True

    def next(self) -> Ask | Finish:
        """To draft, to judge, to revise, or to end with the draft."""
        schema = self._agent.output_schema
        match self._stage:
            case _Stage.DRAFT:
                return Ask(task_event_pb2.MODEL_PHASE_UNSPECIFIED, output_schema=schema)
            case _Stage.CRITIQUE:
                return Ask(
                    task_event_pb2.MODEL_PHASE_CRITIQUE,
                    phase_instructions.critique(),
                    output_schema=phase_instructions.CRITIQUE_SCHEMA,
                )
            case _Stage.REVISION:
                return Ask(
                    task_event_pb2.MODEL_PHASE_REVISION,
                    phase_instructions.revision(self._problems),
                    output_schema=schema,
                )
            case _Stage.END:
                return Finish(self._draft, self._citations, self._ending)

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Takes a draft, or a critique."""
        if self._stage is not _Stage.CRITIQUE:
            self._draft, self._citations = text, tuple(citations)
            self._stage = _Stage.CRITIQUE
            return
        said = phase_answers.critique(text)
        if said is None:
            self._end("CRITIQUE_SKIPPED", "The critic's answer could not be read.")
        elif not said.problems:
            self._stage = _Stage.END
        elif self._revisions < self._max_revisions:
            self._revisions += 1
            self._problems = said.problems
            self._stage = _Stage.REVISION
        else:
            self._end(
                "REVISION_LIMIT",
                f"After {self._revisions} revisions the critic still says:"
                f" {' '.join(said.problems)}",
                is_partial=True,
            )

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Never: nothing is handed out."""

    def _end(self, code: str, text: str, *, is_partial: bool = False) -> None:
        self._ending = Ending([TaskNote(code=code, text=text[:1000])], is_partial)
        self._stage = _Stage.END
