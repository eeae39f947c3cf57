"""Reads out of a conversation where it stands."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.phases import Phase, read_phase, request_text, step_text

# Of all that was said before, so many characters at the end are looked at.
_MOST_SAID: Final = 32_000
# Phases in which the model speaks to the person.
_SPOKEN: Final = frozenset([Phase.REQUEST, Phase.ANSWER, Phase.REVISION])

Message = conversation_pb2.Message


@dataclass(frozen=True, slots=True)
class Work:
    """Something to be done in words, and what was done about it already."""

    request: str
    # What was asked before, from which a short request may go on; empty for nothing.
    request_before: str
    # What was said before the request, by anybody but the model.
    said: Sequence[str]
    # Tool calls made before the request: those after it are numbered on from here.
    calls_before: int
    # What tools answered since the request.
    results: Sequence[conversation_pb2.ToolResult]


@dataclass(frozen=True, slots=True)
class Turn:
    """Where a conversation stands."""

    phase: Phase
    # What the phase's instruction says after its first line.
    instruction: str
    # What is to be done now: the person's request, or the step of a plan.
    work: Work
    # What the person wants in the end: the same as `work`, but within a phase.
    request: Work
    # The steps of the plan that were carried out, in order.
    done: Sequence[Work]
    # What workers returned, newest last: the instructions of reviews.
    reviews: Sequence[str]
    # What the model last answered the request with; empty for nothing.
    draft: str


def read_turn(messages: Sequence[Message]) -> Turn:
    """Where the conversation `messages` stands."""
    users = [
        index
        for index, message in enumerate(messages)
        if message.role == conversation_pb2.ROLE_USER
    ]
    phases = {index: read_phase(text_of(messages[index])) for index in users}
    asked = [index for index in users if phases[index][0] is Phase.REQUEST]
    asks = asked[-1] if asked else -1
    before = text_of(messages[asked[-2]]) if len(asked) > 1 else ""
    said = _said(messages, [*asked[:-1], *_instructions(messages, asks)])
    within = [index for index in users if index > asks]
    request = _work(
        messages, asks, request_text(text_of(messages[asks])) if asks >= 0 else "", before, said
    )
    phase, instruction = phases[within[-1]] if within else (Phase.REQUEST, "")
    steps = [
        _work(messages, index, step_text(phases[index][1]), before, said)
        for index in within
        if phases[index][0] is Phase.STEP
    ]
    work = steps[-1] if phase is Phase.STEP else request
    reviews = [phases[index][1] for index in within if phases[index][0] is Phase.REVIEW]
    return Turn(phase, instruction, work, request, steps, reviews, _draft(messages, asks, phases))


def text_of(message: Message) -> str:
    """The text of a message; images are passed over."""
    if len(message.parts) == 1:
        return message.parts[0].text
    return "\n".join(part.text for part in message.parts if part.text)


def _work(
    messages: Sequence[Message], index: int, request: str, before: str, said: Sequence[str]
) -> Work:
    """The work that the message at `index` asks for: what tools answered up to the next one."""
    calls = sum(len(message.tool_calls) for message in messages[: max(index, 0)])
    results: list[conversation_pb2.ToolResult] = []
    for message in messages[index + 1 :]:
        if message.role == conversation_pb2.ROLE_USER:
            break
        if message.role == conversation_pb2.ROLE_TOOL:
            results.append(message.tool_result)
    return Work(request, before, said, calls, results)


def _instructions(messages: Sequence[Message], before: int) -> Sequence[int]:
    return [
        index
        for index in range(max(before, 0))
        if messages[index].role
        not in (
            conversation_pb2.ROLE_ASSISTANT,
            conversation_pb2.ROLE_TOOL,
            conversation_pb2.ROLE_USER,
        )
    ]


def _said(messages: Sequence[Message], indices: Sequence[int]) -> Sequence[str]:
    """The texts at `indices` in order, the newest of them if they are too much."""
    said: list[str] = []
    left = _MOST_SAID
    for index in sorted(indices, reverse=True):
        text = text_of(messages[index])[-left:]
        said.append(text)
        left -= len(text)
        if left <= 0:
            break
    return said[::-1]


def _draft(messages: Sequence[Message], asks: int, phases: Mapping[int, tuple[Phase, str]]) -> str:
    """What the model said last in a phase whose answer is for the person."""
    draft, phase = "", Phase.REQUEST
    for index in range(asks + 1, len(messages)):
        if index in phases:
            phase = phases[index][0]
        elif messages[index].role == conversation_pb2.ROLE_ASSISTANT and phase in _SPOKEN:
            draft = text_of(messages[index]) or draft
    return draft
