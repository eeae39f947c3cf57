"""A question within a question takes a second search, with what the first one found."""

from typing import Final

from agentmesh.common.v1.conversation_pb2 import Citation, ToolResult
from services.reasoning.offline.follow_ups import both, follow_ups
from services.reasoning.offline.lookups import Lookup, make_lookup
from services.reasoning.offline.plan import SEARCH, Step

_QUESTION: Final = "Who directed the film that was shot in Leland?"


def _found(*passages: tuple[str, str], is_error: bool = False) -> ToolResult:
    cited = [
        Citation(uri=f"{title}.md", title=title, start_line=1, end_line=1, snippet=text, score=0.9)
        for title, text in passages
    ]
    return ToolResult(tool=SEARCH, text="…", citations=cited, is_error=is_error)


_LELAND: Final = _found(("Leland", "The film Maximum Overdrive was shot in Leland in 1986."))
_OVERDRIVE: Final = _found(
    ("Maximum Overdrive", "Maximum Overdrive was directed by Stephen King."),
    ("Minimum", "Somebody else directed a film."),
)


def _step(question: str) -> Step:
    lookup = make_lookup(question)
    return Step(lookup, SEARCH, {"query": lookup.query, "limit": lookup.limit}, callable=True)


def test_the_second_search_has_the_name_and_what_is_missing() -> None:
    """It goes on from the first, with the words of the question that this one lacks."""
    (step,) = follow_ups([_step(_QUESTION)], {0: _LELAND})
    assert step.goes_on_from == 0
    assert step.arguments == {"query": "directed Maximum Overdrive", "limit": 5}


def test_both_sentences_are_the_answer() -> None:
    """The one that names the film, then the one that says of it what is asked."""
    step = _step(_QUESTION)
    (further,) = follow_ups([step], {0: _LELAND})
    assert isinstance(step.subject, Lookup)
    assert isinstance(further.subject, Lookup)
    found = both(step.subject, further.subject, _LELAND, _OVERDRIVE)
    assert [each.text for each in found] == [
        "The film Maximum Overdrive was shot in Leland in 1986.",
        "Maximum Overdrive was directed by Stephen King.",
    ]
    failed = _found(is_error=True)
    assert both(step.subject, further.subject, _LELAND, failed) == []


def test_nothing_more_is_searched_for_where_that_is_no_help() -> None:
    """For plain questions, whole answers, failed searches and passages without a name."""
    plain = _step("What are the opening hours of Leland?")
    assert follow_ups([plain], {0: _LELAND}) == []
    whole = _found(("Film", "Stephen King directed the film that was shot in Leland."))
    assert follow_ups([_step(_QUESTION)], {0: whole}) == []
    assert follow_ups([_step(_QUESTION)], {0: _found(is_error=True)}) == []
    assert follow_ups([_step(_QUESTION)], {}) == []
    unnamed = _found(("", "a film was shot in Leland."))
    assert follow_ups([_step(_QUESTION)], {0: unnamed}) == []
