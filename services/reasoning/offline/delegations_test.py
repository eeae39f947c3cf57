"""Which parts of a request are for others."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.delegations import split_delegation


@pytest.mark.parametrize(
    ("request_text", "parts"),
    [
        ("Delegate: What is 2 + 2?; What is 3 * 3?", ("What is 2 + 2?", "What is 3 * 3?")),
        ("delegate these tasks: A; B; C;", ("A", "B", "C")),
        ("Do these in parallel: 1. A 2. B", ("A", "B")),
        ("in parallel:\n1. A\n   and more\n2) B\n", ("A and more", "B")),
        ("Please answer side by side:\n- A\n- B; C", ("A", "B; C")),
        ("Delegate:\nA\nB", ("A", "B")),
        ("Delegate: only this", ("only this",)),
    ],
)
def test_parts_follow_the_colon(request_text: str, parts: tuple[str, ...]) -> None:
    """A list's items, numbers in one line, lines, or what semicolons divide."""
    before, delegation, after = split_delegation(request_text)
    assert delegation is not None
    assert (before, delegation.parts, after) == ("", parts, "")


def test_what_stands_around_the_parts_is_kept() -> None:
    """The sentences before them, and those after an empty line, are for this task."""
    before, delegation, after = split_delegation(
        "Tell me the time. Then delegate:\n1. A\n\n2. B\n\nWhat is 1 + 1?"
    )
    assert delegation is not None
    assert (before, delegation.parts, after) == ("Tell me the time.", ("A", "B"), "What is 1 + 1?")


@pytest.mark.parametrize(
    "request_text",
    ["What does delegate mean?", "They run in parallel. See: this", "delegate:  ; \n", ""],
)
def test_other_requests_have_no_parts(request_text: str) -> None:
    """Without the word, the colon and something after it nothing is for others."""
    assert split_delegation(request_text) == (request_text, None, "")


@given(st.text(max_size=300))
def test_no_part_is_empty_and_there_are_a_hundred_at_most(text: str) -> None:
    """Whatever follows, each part has words."""
    _, delegation, _ = split_delegation(f"delegate: {text}; " + "x;" * 200)
    assert delegation is not None
    assert all(part.strip() for part in delegation.parts)
    assert len(delegation.parts) <= 100
