"""A request falls into the things that it asks for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.clauses import Clause, ClauseKind, split_request

_Q, _C, _S = ClauseKind.QUESTION, ClauseKind.COMMAND, ClauseKind.STATEMENT


@pytest.mark.parametrize(
    ("request_", "clauses"),
    [
        (
            "What is 17.5% of 2,480, and which of our runbooks mentions rate limits?",
            [
                ("What is 17.5% of 2,480", _Q),
                ("which of our runbooks mentions rate limits?", _Q),
            ],
        ),
        ("What are 2 and 3 added?", [("What are 2 and 3 added?", _Q)]),
        (
            "Which services run on Redis and have no fallback?",
            [("Which services run on Redis and have no fallback?", _Q)],
        ),
        (
            "Is Envoy up and is it fast?",
            [("Is Envoy up", _Q), ("is it fast?", _Q)],
        ),
        ("Multiply 2 by 3 and add 4", [("Multiply 2 by 3 and add 4", _C)]),
        (
            "Please calculate 1+1; then find the SLA.",
            [("calculate 1+1", _C), ("find the SLA.", _C)],
        ),
        ("Hello there. How are lanes chosen?", [("there.", _S), ("How are lanes chosen?", _Q)]),
        ("My name is Ada.", [("My name is Ada.", _S)]),
        ("- what is A?\n- what is B?", [("what is A?", _Q), ("what is B?", _Q)]),
        ("", []),
    ],
)
def test_a_request_is_split_where_something_new_is_asked(
    request_: str, clauses: list[tuple[str, ClauseKind]]
) -> None:
    """Conjunctions part clauses only before words that ask or command."""
    assert split_request(request_) == [Clause(text, kind) for text, kind in clauses]


def test_a_request_has_a_bounded_number_of_clauses() -> None:
    """Who pastes a book gets its first questions answered."""
    assert len(split_request("What is it? " * 10_000)) == 16


@given(st.text(max_size=500))
def test_any_text_is_survived(text: str) -> None:
    """Clauses are never blank."""
    for clause in split_request(text):
        assert clause.text.strip() == clause.text != ""
