"""What a pattern is: the rules by which an agent goes about its task, one move after another.

A pattern calls nothing and stores nothing. It is told what the task's log says, in its
order, and answers the move that follows; so it stands where it stood before, whoever
goes on with the task.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Protocol

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, ModelPhase
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from meshkit.frozen import frozen
from services.executor.children import Part


@frozen
class Ending:
    """How a task ends, beside its answer."""

    notes: Sequence[TaskNote] = ()
    # Something that was asked for is missing; a note says what.
    is_partial: bool = False
    # What the answer rests on, where the model does not say.
    citations: Sequence[Citation] = ()


@frozen
class Ask:
    """The model is asked; it may call tools before it answers."""

    phase: ModelPhase
    # What the model is told now, once; empty for nothing.
    instruction: str = ""
    # JSON Schema of the answer, as text; empty for prose.
    output_schema: str = ""
    # Set where the answer is the task's.
    ending: Ending | None = None
    # What later moves need word for word.
    pins_instruction: bool = False
    pins_answer: bool = False


@dataclass(frozen=True, slots=True)
class HandOut:
    """Parts of the work go to child tasks, and the task waits for all of them."""

    parts: Sequence[Part]


@dataclass(frozen=True, slots=True)
class Finish:
    """The task ends with what the model said before."""

    text: str
    citations: Sequence[Citation]
    ending: Ending


Move = Ask | HandOut | Finish


class Pattern(Protocol):
    """How an agent goes about one task."""

    @property
    def uses_tools(self) -> bool:
        """Whether the model is offered the agent's tools."""
        ...

    def next(self) -> Move:
        """What to do now; the same until something is told."""
        ...

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Is told the model's answer to the present move, which was an Ask without an ending."""
        ...

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Is told what became of the parts of the present move, which was a HandOut.

        `results` are in the order of the parts; those at the end may be missing.
        """
        ...
