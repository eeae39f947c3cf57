"""Supervisor: parts of the work go to workers, their results are reviewed, then comes the answer.

Workers are child tasks, so the supervisor holds no executor while they work. A part
whose result is rejected is done again a bounded number of times, and never with more
than is left of what one worker may use.
"""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from enum import Enum, auto
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, ChildResult, TaskWorker
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from services.executor import children, phase_answers, phase_instructions
from services.executor.children import Part
from services.executor.pattern import Ask, Ending, HandOut
from services.executor.phase_answers import Verdict
from services.executor.shortening import shortened, words_of

DEFAULT_MAX_WORKERS: Final = 8
# How often rejected parts are done again.
MOST_REPEATS: Final = 2
# The results of all parts together, as a review and its next try read them.
_RESULTS_BYTES: Final = 48 * 1024
_LEAST_RESULT_BYTES: Final = 512
_NO_REASON: Final = "It does not do what was asked."
# Where the agent names no workers.
_OWN_WORKER: Final = "worker"


class _Stage(Enum):
    DELEGATION = auto()
    WORK = auto()
    REVIEW = auto()
    ANSWER = auto()


@dataclass(slots=True)
class _Part:
    """One part and what became of it so far."""

    number: int
    worker: str
    text: str
    result: ChildResult
    reason: str = ""
    is_accepted: bool = False
    tokens_used: int = 0
    cost_micros: int = 0


class Supervisor:
    """The parts of one task."""

    def __init__(self, agent: AgentSpec, workers: Sequence[TaskWorker]) -> None:
        self._agent: Final = agent
        self._limits: Final = agent.limits
        self._most: Final = agent.limits.max_workers or DEFAULT_MAX_WORKERS
        self._workers: Final = _by_id(agent, workers)
        # Parts go to the agent itself.
        self._is_alone: Final = not workers
        self._stage = _Stage.DELEGATION
        self._parts: Sequence[_Part] = ()
        # Those that are done, or reviewed, now.
        self._open: Sequence[_Part] = ()
        self._repeats = 0
        self._notes: Final[list[TaskNote]] = []
        self._is_partial = False

    @property
    def uses_tools(self) -> bool:
        """Only its workers do."""
        return False

    def next(self) -> Ask | HandOut:
        """To delegate, to hand out parts, to review, or to answer."""
        match self._stage:
            case _Stage.DELEGATION:
                about = {worker: each.description for worker, each in self._workers.items()}
                return Ask(
                    task_event_pb2.MODEL_PHASE_DELEGATION,
                    phase_instructions.delegation(about, self._most),
                    output_schema=phase_instructions.delegation_schema(list(self._workers)),
                )
            case _Stage.WORK:
                return HandOut([self._task(part) for part in self._open])
            case _Stage.REVIEW:
                return Ask(
                    task_event_pb2.MODEL_PHASE_REVIEW,
                    phase_instructions.review([self._account(part) for part in self._open]),
                    output_schema=phase_instructions.REVIEW_SCHEMA,
                    # The answer is made of what stands in it.
                    pins_instruction=True,
                )
            case _Stage.ANSWER:
                return Ask(
                    task_event_pb2.MODEL_PHASE_ANSWER,
                    phase_instructions.answer(),
                    output_schema=self._agent.output_schema,
                    ending=self._ending(),
                )

    def answered(self, text: str, citations: Sequence[Citation]) -> None:
        """Takes a delegation, or a review."""
        if self._stage is _Stage.DELEGATION:
            self._take_delegation(text)
        else:
            self._take_review(phase_answers.verdicts(text))

    def returned(self, results: Sequence[ChildResult]) -> None:
        """Takes the results of the parts that were handed out."""
        for index, part in enumerate(self._open):
            part.result = results[index] if index < len(results) else ChildResult()
            part.tokens_used += children.tokens_used(part.result.usage)
            part.cost_micros += part.result.usage.cost_micros
        self._stage = _Stage.REVIEW

    def _take_delegation(self, text: str) -> None:
        assignments = phase_answers.assignments(text, self._workers)
        if assignments is None:
            self._note(
                "DELEGATION_SKIPPED", "The delegation could not be read; it was done without."
            )
            assignments = ()
        elif len(assignments) > self._most:
            self._note("DELEGATION_SHORTENED", f"Only {self._most} parts may be handed out.")
            self._is_partial = True
        self._parts = [
            _Part(number, each.worker, each.text, ChildResult())
            for number, each in enumerate(assignments[: self._most], start=1)
        ]
        self._open = self._parts
        self._stage = _Stage.WORK if self._parts else _Stage.ANSWER

    def _take_review(self, verdicts: Mapping[int, Verdict] | None) -> None:
        if verdicts is None:
            self._note("REVIEW_SKIPPED", "The review of the workers' results could not be read.")
            verdicts = {}
        for part in self._open:
            # Nobody objects to a result that there is.
            is_done = children.is_done(part.result)
            verdict = verdicts.get(part.number, Verdict(is_done, ""))
            part.is_accepted = is_done and verdict.accepted
            part.reason = verdict.reason or (_NO_REASON if is_done else children.words(part.result))
        rejected = [part for part in self._open if not part.is_accepted and self._has_left(part)]
        if not rejected or self._repeats == MOST_REPEATS:
            self._stage = _Stage.ANSWER
            return
        self._repeats += 1
        self._open = rejected
        self._stage = _Stage.WORK

    def _has_left(self, part: _Part) -> bool:
        tokens, cost_micros = self._limits.worker_max_tokens, self._limits.worker_max_cost_micros
        return (not tokens or part.tokens_used < tokens) and (
            not cost_micros or part.cost_micros < cost_micros
        )

    def _task(self, part: _Part) -> Part:
        """What the worker of a part gets."""
        tokens, cost_micros = self._limits.worker_max_tokens, self._limits.worker_max_cost_micros
        text = part.text
        if part.reason:
            text = phase_instructions.redone(text, self._shown(part), part.reason)
        return Part(
            text,
            self._workers[part.worker].name,
            max_tokens=tokens and tokens - part.tokens_used,
            max_cost_micros=cost_micros and cost_micros - part.cost_micros,
            without_workers=self._is_alone,
        )

    def _account(self, part: _Part) -> str:
        return phase_instructions.returned_part(
            part.number,
            part.worker,
            children.state_word(part.result),
            part.text,
            self._shown(part),
        )

    def _shown(self, part: _Part) -> str:
        share = max(_RESULTS_BYTES // len(self._parts), _LEAST_RESULT_BYTES)
        return shortened(children.words(part.result), words_of(part.text), share)

    def _ending(self) -> Ending:
        notes = list(self._notes)
        is_partial = self._is_partial
        citations: list[Citation] = []
        for part in self._parts:
            if part.is_accepted:
                notes.extend(children.notes([part.result]))
                citations.extend(each for each in part.result.citations if each not in citations)
            else:
                is_partial = True
                why = f"Part {part.number}, by {part.worker}, will not do: {part.reason}"
                notes.append(TaskNote(code="PART_REJECTED", text=why[:1000]))
        return Ending(notes, is_partial, citations)

    def _note(self, code: str, text: str) -> None:
        self._notes.append(TaskNote(code=code, text=text))


def _by_id(agent: AgentSpec, workers: Sequence[TaskWorker]) -> Mapping[str, TaskWorker]:
    """The workers by the shortest name that tells them apart."""
    if not workers:
        about = "Does any part, with the same tools and instructions as you."
        return {_OWN_WORKER: TaskWorker(name=agent.name, description=about)}
    found: dict[str, TaskWorker] = {}
    for worker in workers:
        full = worker.name.rpartition("/")[2]
        short = full.partition("@")[0]
        found[full if short in found else short] = worker
    return found
