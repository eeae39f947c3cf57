"""Recognises what an agent's pattern asks for, by the fixed first lines of its instructions."""

import re
from collections.abc import Sequence
from dataclasses import dataclass
from enum import Enum
from typing import Final


class Phase(Enum):
    """What is asked for. The values begin the instructions."""

    # No phase: a person asks.
    REQUEST = ""
    PLAN = "[plan] Make a plan for the request above. Do not carry it out yet."
    CORRECTION = "[replan] Correct the plan: a step could not be done as planned."
    STEP = "[step] Carry out this one step of the plan now."
    ANSWER = "[answer] Answer the request now, in full, from what was found above."
    CRITIQUE = "[critique] Judge your answer above as a strict reader would."
    REVISION = "[revision] Write the answer anew, with these problems solved."
    DELEGATION = "[delegation] Split the request above into parts for workers."
    REVIEW = "[review] Judge what the workers returned."


# Begins the answer to a step that cannot be done.
BLOCKED: Final = "BLOCKED:"

_BY_LINE: Final = {phase.value: phase for phase in Phase if phase.value}
# What a worker is told of an earlier try, below its part.
_REDONE: Final = "\n\nAn earlier result was rejected: "
# Begins what is said where an answer does not have the shape that was asked for.
_UNFIT: Final = "That is not what was asked for: "
_STEP: Final = re.compile(r"^Step \d+ of \d+: ")
_AFTER_STEP: Final = "\nUse the tools where they help."
_AFTER_PROBLEMS: Final = "\nGive the whole answer, not the changes alone."
_MOST: Final = re.compile(r"\bat most (\d{1,4})\b")
_WORKERS: Final = "\nWorkers:\n"
_PART: Final = re.compile(
    r"^### Part (?P<number>\d{1,4}), by (?P<worker>[^\n]{1,200}): (?P<state>[A-Z_]{1,32})\nAsked: ",
    re.MULTILINE,
)
_RETURNED: Final = "\nReturned:\n"
_JSON_ONLY: Final = "\n\nAnswer with JSON only:"


@dataclass(frozen=True, slots=True)
class ReturnedPart:
    """What a worker was asked, and what came of it."""

    number: int
    # Of its task: `SUCCEEDED`, `FAILED`.
    state: str
    asked: str
    returned: str


def read_phase(text: str) -> tuple[Phase, str]:
    """The phase that `text` asks for, and what it says after its first line."""
    line, _, rest = text.partition("\n")
    phase = _BY_LINE.get(line.rstrip())
    return (Phase.REQUEST, text) if phase is None else (phase, rest)


def request_text(text: str) -> str:
    """What a person or a supervisor asks for: the rules do it the same way each time."""
    return text.partition(_REDONE)[0]


def unfit(text: str) -> str:
    """What is wrong with the answer before, where `text` says so; empty otherwise."""
    return text.removeprefix(_UNFIT) if text.startswith(_UNFIT) else ""


def step_text(body: str) -> str:
    """The step that an instruction wants to be carried out."""
    text, _, _ = body.partition(_AFTER_STEP)
    return _STEP.sub("", text, count=1).strip()


def most(body: str) -> int:
    """How many steps or parts there may be; 0 where an instruction does not say."""
    match = _MOST.search(body)
    return int(match[1]) if match is not None else 0


def problems(body: str) -> Sequence[str]:
    """What a revision is to solve."""
    text, _, _ = body.rpartition(_AFTER_PROBLEMS)
    listed = (text or body).removeprefix("- ").split("\n- ")
    return [each.strip() for each in listed if each.strip()]


def workers(body: str) -> dict[str, str]:
    """What each worker is for, by its id."""
    _, _, rest = body.partition(_WORKERS)
    found: dict[str, str] = {}
    for line in rest.split("\n"):
        if not line.startswith("- "):
            break
        name, _, about = line.removeprefix("- ").partition(":")
        found[name.strip()] = about.strip()
    return found


def returned_parts(body: str) -> Sequence[ReturnedPart]:
    """What workers returned, in order."""
    begun: list[re.Match[str]] = []
    for match in _PART.finditer(body):
        # Words that only look like the beginning of a part are not the next one.
        if not begun or int(match["number"]) > int(begun[-1]["number"]):
            begun.append(match)
    ends = [match.start() for match in begun[1:]]
    last = body.rfind(_JSON_ONLY)
    ends.append(last if last >= 0 else len(body))
    found: list[ReturnedPart] = []
    for match, end in zip(begun, ends, strict=False):
        asked, _, returned = body[match.end() : end].partition(_RETURNED)
        found.append(
            ReturnedPart(int(match["number"]), match["state"], asked.strip(), returned.strip())
        )
    return found
