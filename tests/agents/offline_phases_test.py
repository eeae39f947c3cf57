"""The offline model reads the instructions of patterns as the executor writes them."""

import pytest

from services.executor import phase_instructions
from services.reasoning.offline import phases
from services.reasoning.offline.phases import Phase, ReturnedPart


@pytest.mark.parametrize(
    ("written", "phase"),
    [
        (phase_instructions.plan(4), Phase.PLAN),
        (phase_instructions.correction("a", "b", 4), Phase.CORRECTION),
        (phase_instructions.step(1, 2, "a"), Phase.STEP),
        (phase_instructions.answer(), Phase.ANSWER),
        (phase_instructions.critique(), Phase.CRITIQUE),
        (phase_instructions.revision(["a"]), Phase.REVISION),
        (phase_instructions.delegation({"a": "b"}, 4), Phase.DELEGATION),
        (phase_instructions.review(["a"]), Phase.REVIEW),
        ("What is it?", Phase.REQUEST),
    ],
)
def test_each_phase_is_known_by_its_first_line(written: str, phase: Phase) -> None:
    """The lines are the same on both sides."""
    assert phases.read_phase(written)[0] is phase


def test_what_an_instruction_says_is_read_whole() -> None:
    """Steps, numbers, problems, workers, results, and parts that are done again."""
    _, step = phases.read_phase(phase_instructions.step(2, 3, "Find it.\nThen count it."))
    assert phases.step_text(step) == "Find it.\nThen count it."
    _, plan = phases.read_phase(phase_instructions.plan(7))
    assert phases.most(plan) == 7
    _, revision = phases.read_phase(phase_instructions.revision(["It is long.", "It is wrong."]))
    assert phases.problems(revision) == ["It is long.", "It is wrong."]
    _, delegation = phases.read_phase(
        phase_instructions.delegation({"sums": "does sums", "library": "knows books"}, 3)
    )
    assert phases.workers(delegation) == {"sums": "does sums", "library": "knows books"}
    assert phases.most(delegation) == 3
    accounts = [
        phase_instructions.returned_part(1, "sums", "SUCCEEDED", "1+1?", "2"),
        phase_instructions.returned_part(2, "library", "FAILED", "Who?", ""),
    ]
    _, review = phases.read_phase(phase_instructions.review(accounts))
    assert phases.returned_parts(review) == [
        ReturnedPart(1, "SUCCEEDED", "1+1?", "2"),
        ReturnedPart(2, "FAILED", "Who?", ""),
    ]
    again = phase_instructions.redone("What is it?", "A cat.", "It is a dog.")
    assert phases.request_text(again) == "What is it?"
    assert phases.BLOCKED == phase_instructions.BLOCKED
