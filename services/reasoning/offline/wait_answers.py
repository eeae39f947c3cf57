"""Words what people, times and other tasks gave, once they were waited for."""

import re
from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.citations import Citations
from services.reasoning.offline.delegations import Delegation
from services.reasoning.offline.pauses import Pause
from services.reasoning.offline.person_questions import PersonQuestion
from services.reasoning.offline.shorten import sentence, shortened

Result = conversation_pb2.ToolResult

_LONGEST_OUTPUT: Final = 4000
# How the results of child tasks are told: "Task 2 of 3: SUCCEEDED", then the words.
_CHILD: Final = re.compile(r"(?:^|\n\n)Task (?P<number>\d+) of \d+: (?P<state>[A-Z_]+)\n")
_REFERENCE: Final = re.compile(r"\[(\d{1,3})\]")
_UNKNOWN: Final = re.compile(r" ?\[\d{1,3}\]")
_DONE: Final = frozenset(["SUCCEEDED", "PARTIAL"])


def asked(question: PersonQuestion, result: Result | None) -> str:
    """What a person answered."""
    if result is None:
        return f"I could not ask: {question.question}"
    if result.is_error:
        return f"I asked: “{question.question}” {sentence(result.text)}"
    return f"“{question.question}” was answered: {sentence(result.text)}"


def paused(pause: Pause, result: Result | None) -> str:
    """That the time is over."""
    if result is None or result.is_error:
        why = f": {sentence(result.text)}" if result is not None else "."
        return f"I could not wait {pause.phrase}{why}"
    return f"I waited {pause.phrase}."


def delegated(delegation: Delegation, result: Result | None, citations: Citations) -> str:
    """What the others found, a line for each part; what they cite keeps its passage."""
    if result is None:
        return "I could not hand the parts on."
    accounts = _accounts(result.text)
    if not accounts:
        return f"The parts were not done: {sentence(result.text)}"
    texts = _renumbered([text for _, text in accounts], result.citations, citations)
    lines: list[str] = []
    for number, (part, (state, _), text) in enumerate(
        zip(delegation.parts, accounts, texts, strict=False), start=1
    ):
        said = text if state in _DONE else f"{state}: {sentence(text)}"
        lines.append(f"{number}. {part} → {shortened(said, _LONGEST_OUTPUT)}")
    return "\n".join(lines)


def _accounts(text: str) -> list[tuple[str, str]]:
    """State and words of each child, in order."""
    found: list[tuple[str, str]] = []
    start, state = 0, ""
    for match in _CHILD.finditer(text):
        # Words that look like a child's beginning have not the next number.
        if int(match["number"]) != len(found) + bool(state) + 1:
            continue
        if state:
            found.append((state, text[start : match.start()].strip()))
        start, state = match.end(), match["state"]
    return [*found, (state, text[start:].strip())] if state else found


def _renumbered(
    texts: Sequence[str], cited: Sequence[conversation_pb2.Citation], citations: Citations
) -> list[str]:
    """The texts with the numbers that their passages have in this answer.

    Each counted its own passages from 1, and `cited` has those of all in order.
    Where the numbers do not fit, they are left out rather than wrong.
    """
    counts = [max((int(each) for each in _REFERENCE.findall(text)), default=0) for text in texts]
    if sum(counts) != len(cited):
        return [_UNKNOWN.sub("", text) for text in texts]
    renumbered: list[str] = []
    first = 0
    for text, count in zip(texts, counts, strict=True):
        numbers = [citations.number(each) for each in cited[first : first + count]]
        renumbered.append(
            _REFERENCE.sub(lambda match, to=numbers: f"[{to[int(match[1]) - 1]}]", text)
        )
        first += count
    return renumbered
