"""The best answer that there is when a limit ends a task before its pattern does."""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation
from agentmesh.coordinator.v1 import task_event_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, ModelCalled, TaskEvent, TaskWaiting
from services.executor import children, conversation, phase_instructions

# What a model says in these is no part of an answer.
_ABOUT_THE_WORK: Final = frozenset(
    {
        task_event_pb2.MODEL_PHASE_PLAN,
        task_event_pb2.MODEL_PHASE_CRITIQUE,
        task_event_pb2.MODEL_PHASE_DELEGATION,
        task_event_pb2.MODEL_PHASE_REVIEW,
    }
)

_Found = tuple[str, Sequence[Citation]]


def best_so_far(events: Sequence[TaskEvent]) -> tuple[str, list[Citation]]:
    """The model's last words; else the results of steps and parts; and what tools found since."""
    found = _Findings()
    waiting = TaskWaiting()
    for event in events:
        match event.WhichOneof("kind"):
            case "model_called":
                found.say(event.model_called)
            case "tool_called" if not event.tool_called.result.is_error:
                result = event.tool_called.result
                found.by_tools.append((result.text, result.citations))
            case "waiting":
                waiting = event.waiting
            # What the tool `delegate` waited for comes again, as what it returned.
            case "resumed" if not waiting.wait.call_id:
                found.take_parts(waiting, event.resumed.children)
            case _:
                pass
    everything = [*found.words, *found.by_parts.values(), *found.by_tools]
    citations: list[Citation] = []
    for _, some in everything:
        citations.extend(each for each in some if each not in citations)
    return "\n\n".join(text for text, _ in everything), citations


class _Findings:
    """What was found, by who found it."""

    def __init__(self) -> None:
        self.words: list[_Found] = []
        # By what the part was at first: a later try comes in place of an earlier one.
        self.by_parts: dict[str, _Found] = {}
        self.by_tools: list[_Found] = []

    def say(self, called: ModelCalled) -> None:
        """Takes what a model said: it knows what tools found before."""
        text = conversation.text_of(called.message)
        is_step = called.phase == task_event_pb2.MODEL_PHASE_STEP
        if (
            not text
            or called.phase in _ABOUT_THE_WORK
            or (is_step and text.lstrip().startswith(phase_instructions.BLOCKED))
        ):
            return
        if not is_step:
            self.words.clear()
            self.by_parts.clear()
        self.by_tools.clear()
        self.words.append((text, called.citations))

    def take_parts(self, waiting: TaskWaiting, results: Sequence[ChildResult]) -> None:
        """Takes what workers returned."""
        for child, result in zip(waiting.children, results, strict=False):
            if children.is_done(result):
                part = phase_instructions.original(child.input.text)
                self.by_parts[part] = (children.words(result), result.citations)
