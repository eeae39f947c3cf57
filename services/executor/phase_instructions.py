"""What a model is told in each phase of a pattern, and the shape of what it is to answer.

An instruction is the newest message of the user when the model is asked; only the
model's own calls of tools, and their results, may come after it. Its first line is
fixed, so that a model that goes by rules knows the phase by it.

In phases with a schema the answer is JSON and nothing else.
"""

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

PLAN: Final = "[plan] Make a plan for the request above. Do not carry it out yet."
CORRECTION: Final = "[replan] Correct the plan: a step could not be done as planned."
STEP: Final = "[step] Carry out this one step of the plan now."
ANSWER: Final = "[answer] Answer the request now, in full, from what was found above."
CRITIQUE: Final = "[critique] Judge your answer above as a strict reader would."
REVISION: Final = "[revision] Write the answer anew, with these problems solved."
DELEGATION: Final = "[delegation] Split the request above into parts for workers."
REVIEW: Final = "[review] Judge what the workers returned."

# A step's answer that begins so says why the step cannot be done.
BLOCKED: Final = "BLOCKED:"

_REJECTED: Final = "\n\nAn earlier result was rejected: "

_Json = Any


def _object(**properties: _Json) -> _Json:
    """A schema that every provider's strict mode takes: all properties, and no others."""
    return {
        "type": "object",
        "properties": properties,
        "required": list(properties),
        "additionalProperties": False,
    }


def _list(items: _Json) -> _Json:
    return {"type": "array", "items": items}


_TEXT: Final[_Json] = {"type": "string"}

PLAN_SCHEMA: Final = json.dumps(_object(steps=_list(_TEXT)))
CRITIQUE_SCHEMA: Final = json.dumps(_object(acceptable={"type": "boolean"}, problems=_list(_TEXT)))
REVIEW_SCHEMA: Final = json.dumps(
    _object(
        verdicts=_list(
            _object(part={"type": "integer"}, accepted={"type": "boolean"}, reason=_TEXT)
        )
    )
)


def delegation_schema(workers: Sequence[str]) -> str:
    """The shape of a delegation to some of `workers`."""
    worker = {"type": "string", "enum": list(workers)}
    return json.dumps(_object(parts=_list(_object(worker=worker, text=_TEXT))))


def plan(most: int) -> str:
    """Asks for a plan of at most `most` steps."""
    return (
        f"{PLAN}\n"
        f"Give its steps in order, at most {most} and no more than it takes. Each is one sentence"
        " that says what to find out or do, and which earlier results it needs. A request that"
        " can be answered at once needs no steps: give none.\n"
        'Answer with JSON only: {"steps": ["first step", "second step"]}'
    )


def correction(step: str, why: str, most: int) -> str:
    """Asks for other steps in place of `step`, which was blocked, and of those after it."""
    return (
        f"{CORRECTION}\n"
        f"Step: {step}\n"
        f"Why it could not be done: {why}\n"
        f"Give the steps that remain, in order, at most {most}, without what is done already and"
        " without what cannot be done. If nothing useful remains, give none.\n"
        'Answer with JSON only: {"steps": ["next step"]}'
    )


def step(number: int, count: int, text: str) -> str:
    """Asks for one step."""
    return (
        f"{STEP}\n"
        f"Step {number} of {count}: {text}\n"
        "Use the tools where they help. Answer with the result of this step alone. If it cannot"
        f" be done, begin the answer with {BLOCKED} and say why."
    )


def answer() -> str:
    """Asks for the answer to the request, once everything else is done."""
    return (
        f"{ANSWER}\n"
        "Answer every part of it. Say plainly what could not be found or done. Do not speak of"
        " steps, plans or workers."
    )


def critique() -> str:
    """Asks what is wrong with the draft just given."""
    return (
        f"{CRITIQUE}\n"
        "Look for what is wrong, what the request asks for and the answer lacks, and what"
        " nothing above supports. Name each problem in one sentence that says what to change."
        " Matters of taste are no problems.\n"
        'Answer with JSON only: {"acceptable": false, "problems": ["what to change"]},'
        ' or {"acceptable": true, "problems": []}'
    )


def revision(problems: Sequence[str]) -> str:
    """Asks for a better draft."""
    listed = "\n".join(f"- {problem}" for problem in problems)
    return f"{REVISION}\n{listed}\nGive the whole answer, not the changes alone."


def delegation(workers: Mapping[str, str], most: int) -> str:
    """Asks for at most `most` parts, each for one of `workers` (what each is for, by id)."""
    listed = "\n".join(f"- {worker}: {about}" for worker, about in workers.items())
    return (
        f"{DELEGATION}\n"
        f"Give at most {most}, and no more than it takes; work that is one piece is one part."
        " Workers do their parts side by side. Each sees the text of its part and nothing else,"
        " so the text says all that it takes.\n"
        f"Workers:\n{listed}\n"
        'Answer with JSON only: {"parts": [{"worker": "one of the workers", "text": "the part"}]}'
    )


def review(returned: Sequence[str]) -> str:
    """Asks which parts will do; `returned` is an account of each, made by `returned_part`."""
    accounts = "\n\n".join(returned)
    return (
        f"{REVIEW}\n"
        "Accept a part if its result does what the part asked for. Reject it otherwise, and say"
        " in one sentence what is wrong; it is then done again.\n\n"
        f"{accounts}\n\n"
        'Answer with JSON only: {"verdicts": [{"part": 1, "accepted": true, "reason": ""}]}'
    )


def returned_part(number: int, worker: str, state: str, text: str, result: str) -> str:
    """What became of a part: `state` is that of its task, such as SUCCEEDED or FAILED."""
    return f"### Part {number}, by {worker}: {state}\nAsked: {text}\nReturned:\n{result}"


def redone(text: str, result: str, reason: str) -> str:
    """A part for another try, as its worker reads it."""
    return f"{text}{_REJECTED}{reason}\nThe earlier result was:\n{result}"


def original(text: str) -> str:
    """The part that a worker's text began as."""
    return text.partition(_REJECTED)[0]
