"""Stories with numbers are read as one calculation, or not at all."""

from typing import Final

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reasoning.offline.word_problems import WordProblem, find_word_problem


@pytest.mark.parametrize(
    ("text", "expression", "unit"),
    [
        (
            "Ada had 33 books. If she sold 11 of them and bought 23 new books, how many books"
            " would Ada have?",
            "33 - 11 + 23",
            "books",
        ),
        (
            "Ada picked 36 tulips and 37 roses. How many flowers did she pick in total?",
            "36 + 37",
            "flowers",
        ),
        ("Ada had 40 dollars. She spent 12 dollars. How much money is left?", "40 - 12", "$"),
        (
            "Ada bought 13 boxes of candy and gave 7 to a colleague. If each box has 6 pieces"
            " inside it, how many pieces did Ada still have?",
            "(13 - 7) * 6",
            "pieces",
        ),
        (
            "Ada bought 3 pens and 4 books. If each item cost 6 dollars, how much money did she"
            " spend?",
            "",
            "",
        ),
        (
            "There are 40 pupils. If each bus holds 8 pupils, how many buses are needed?",
            "40 / 8",
            "buses",
        ),
        ("Ada has 81 games and 59 films. How many more games than films has she?", "81 - 59", ""),
    ],
)
def test_a_story_is_one_calculation(text: str, expression: str, unit: str) -> None:
    """Gains and losses, sums, rates and differences."""
    found = find_word_problem(text)
    if not expression:
        assert found is None
    else:
        assert found is not None
        assert found.expression == expression
        assert not unit or found.unit == unit


@pytest.mark.parametrize(
    "text",
    [
        "Ada had 5 apples and some pears. She ate 2. How many are left?",
        "Ada has twice as many apples as Ben, who has 4. How many do they have in total?",
        "Ada had 5 apples. Ben had 7 apples and ate 2 apples. How many apples has Ben left?",
        "A store sold 20 % of its 50 pens and then 5 more. How many pens are left?",
        "Each tree has 9 apples left. Ada picked 7 apples from each of her 4 trees."
        " How many apples did Ada pick?",
        "Ada ran 3 km in 20 minutes and Ben ran 4 km in 30 minutes. How many km did Ada run?",
        "There are 7 bags. If 10 marbles are put into bags of 4 each, how many bags are needed?",
        "What happened in 2019 and 2020?",
        "How many services have 3 replicas?",
    ],
)
def test_what_is_not_beyond_doubt_is_not_read(text: str) -> None:
    """Unknown amounts, comparisons, two people, numbers that are left over."""
    assert find_word_problem(text) is None


_COUNTS: Final = st.integers(2, 10_000)


@settings(deadline=None)
@given(_COUNTS, _COUNTS, st.sampled_from(["sold", "lost", "ate", "gave away"]))
def test_a_loss_is_never_more_than_there_was(had: int, lost: int, verb: str) -> None:
    """Where more is lost than there was, the story was not understood."""
    found = find_word_problem(
        f"Ada had {had} nuts. She {verb} {lost} nuts. How many nuts are left?"
    )
    expected = WordProblem(f"{had} - {lost}", "nuts") if lost <= had else None
    assert found == expected


@settings(deadline=None)
@given(st.lists(_COUNTS, min_size=2, max_size=9))
def test_all_numbers_are_read_or_none(counts: list[int]) -> None:
    """More than six numbers are not read at all."""
    listed = ", ".join(f"{count} nuts" for count in counts[:-1])
    text = f"Ada bought {listed} and {counts[-1]} nuts. How many nuts did Ada buy in total?"
    found = find_word_problem(text)
    if len(counts) > 6:
        assert found is None
    else:
        assert found == WordProblem(" + ".join(map(str, counts)), "nuts")


@settings(deadline=None)
@given(st.text(max_size=400))
def test_any_text_is_survived(text: str) -> None:
    """What is found is arithmetic."""
    for each in (text, f"{text} 3 nuts and 4 nuts. How many nuts in total?"):
        found = find_word_problem(each)
        assert found is None or set(found.expression) <= set("0123456789.+-*/() ")
