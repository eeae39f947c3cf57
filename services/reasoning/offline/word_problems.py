"""Reads small stories with numbers as one calculation, where only one reading is likely."""

from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class WordProblem:
    """A story that ends in a question for a number."""

    expression: str
    # What is counted: `apples`, or `$` for money; empty where it is not told.
    unit: str = ""


def find_word_problem(text: str) -> WordProblem | None:
    """The calculation that `text` tells; None where that is not beyond doubt."""
    return None
