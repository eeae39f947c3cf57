"""Plan and execute: a plan first, then its steps, then the answer.

After Wang et al., "Plan-and-Solve Prompting" (2023). A step that cannot be done leads to
another plan for what remains, a bounded number of times.
"""

from collections.abc import Sequence
from enum import Enum, auto
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, ChildResult
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from services.executor import phase_answers, phase_instructions
from services.executor.pattern import Ask, Ending

MOST_STEPS: Final = 12
MOST_CORRECTIONS: Final = 2


class _Stage(Enum):
    PLAN = auto()
    CORRECTION = auto()
    STEP = auto()
    ANSWER = auto()


class PlanAndExecute:
    """A plan, and how far it was carried out."""

    def __init__(self, agent: AgentSpec) -> None:
        self._agent: Final = agent
        self._stage = _Stage.PLAN
        # The steps of the plan in force, and the one that is next or cannot be done.
        self._steps: Sequence[str] = ()
        self._at = 0
        self._why_blocked = ""
        self._corrections = 0
        self._notes: Final[list[TaskNote]] = []
        self._is_partial = False
        self._citations: Final[list[Citation]] = []

    @property
    def uses_tools(self) -> bool:
        """It does, in every phase: requests that begin alike are quicker and cheaper."""
        return True

    def next(self) -> Ask:
        """To plan, to carry out a step, to plan again, or to answer."""
        match self._stage:
            case _Stage.PLAN:
                return self._ask_for_plan(phase_instructions.plan(MOST_STEPS))
            case _Stage.CORRECTION:
                return self._ask_for_plan(
                    phase_instructions.correction(
                        self._steps[self._at], self._why_blocked, MOST_STEPS
                    )
                )
            case _Stage.STEP:
                return Ask(
                    task_event_pb2.MODEL_PHASE_STEP,
                    phase_instructions.step(self._at + 1, len(self._steps), self._steps[self._at]),
                )
            case _Stage.ANSWER:
                return Ask(
                    task_event_pb2.MODEL_PHASE_ANSWER,
                    phase_instructions.answer(),
                    output_schema=self._agent.output_schema,
                    ending=Ending(self._notes, self._is_partial, self._citations),
                )

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Takes a plan, or a step's result."""
        match self._stage:
            case _Stage.PLAN:
                self._take_plan(text)
            case _Stage.CORRECTION:
                blocked = self._steps[self._at]
                self._take_plan(text)
                if not self._steps:
                    self._give_up(blocked)
            case _Stage.STEP:
                self._take_result(text, citations)
            case _Stage.ANSWER:
                pass

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Never: nothing is handed out."""

    def _ask_for_plan(self, instruction: str) -> Ask:
        return Ask(
            task_event_pb2.MODEL_PHASE_PLAN,
            instruction,
            output_schema=phase_instructions.PLAN_SCHEMA,
            pins_answer=True,
        )

    def _take_plan(self, text: str) -> None:
        steps = phase_answers.steps(text)
        if steps is None:
            self._note("PLAN_SKIPPED", "The model's plan could not be read; it went on without.")
            steps = ()
        elif len(steps) > MOST_STEPS:
            self._note(
                "PLAN_SHORTENED", f"Of {len(steps)} planned steps {MOST_STEPS} were carried out."
            )
            self._is_partial = True
        self._steps, self._at = steps[:MOST_STEPS], 0
        self._stage = _Stage.STEP if self._steps else _Stage.ANSWER

    def _take_result(self, text: str, citations: Sequence[Citation]) -> None:
        if not text.lstrip().startswith(phase_instructions.BLOCKED):
            self._citations.extend(each for each in citations if each not in self._citations)
            self._at += 1
            if self._at == len(self._steps):
                self._stage = _Stage.ANSWER
            return
        self._why_blocked = " ".join(text.split()).removeprefix(phase_instructions.BLOCKED).strip()
        if self._corrections < MOST_CORRECTIONS:
            self._corrections += 1
            self._stage = _Stage.CORRECTION
        else:
            self._give_up(self._steps[self._at])
            self._stage = _Stage.ANSWER

    def _give_up(self, step: str) -> None:
        self._is_partial = True
        self._note("STEP_BLOCKED", f"This step could not be done: {step} {self._why_blocked}")

    def _note(self, code: str, text: str) -> None:
        self._notes.append(TaskNote(code=code, text=text[:1000]))
