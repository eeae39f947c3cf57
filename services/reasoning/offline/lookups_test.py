"""Questions become what documents are searched for."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.offline.lookups import Lookup, make_lookup


@pytest.mark.parametrize(
    ("clause", "query", "subject", "kinds"),
    [
        (
            "which of our runbooks mentions rate limits?",
            "rate limits runbooks",
            "rate limits",
            ("runbook",),
        ),
        ("Which documents talk about Envoy?", "envoy documents", "Envoy", ()),
        ("List all policies that cover refunds", "refunds policies", "refunds", ("policy",)),
        ("Where are rate limits described?", "rate limits", "rate limits", ()),
        (
            "Are dead letters mentioned in our runbooks?",
            "dead letters runbooks",
            "dead letters",
            ("runbook",),
        ),
    ],
)
def test_who_mentions_something_is_a_question_of_its_own(
    clause: str, query: str, subject: str, kinds: tuple[str, ...]
) -> None:
    """The subject comes first in the query, and the kind of document is kept."""
    lookup = make_lookup(clause)
    assert (lookup.query, lookup.subject, lookup.kinds, lookup.limit) == (query, subject, kinds, 8)


@pytest.mark.parametrize(
    ("clause", "query"),
    [
        ("What is our refund policy?", "What is our refund policy"),
        ("What does the contract say about refunds?", "What does the contract say about refunds"),
        ("Search our docs for late returns", "late returns"),
        ("Tell me about the dead letter queue.", "dead letter queue"),
        ("Explain lanes", "lanes"),
    ],
)
def test_other_questions_are_searched_as_they_are_asked(clause: str, query: str) -> None:
    """Only what merely commands the search is left out."""
    lookup = make_lookup(clause)
    assert (lookup.query, lookup.subject, lookup.limit) == (query, "", 5)


def test_a_short_question_goes_on_from_the_one_before() -> None:
    """Words that a follow-up leaves out come from the earlier question."""
    assert make_lookup("Why?", before="Which lane has two attempts?") == Lookup(
        "Why", "Why lane two attempts", 5, ("lan", "two", "attempt")
    )


@given(st.text(min_size=1, max_size=300), st.text(max_size=100))
def test_any_text_is_survived(clause: str, before: str) -> None:
    """Every clause can be looked up."""
    assert make_lookup(clause, before=before).limit in (5, 8)
