"""Which questions are for people, and how they are worded."""

import pytest

from services.reasoning.offline.person_questions import find_person_question


@pytest.mark.parametrize(
    ("clause", "question"),
    [
        ("Ask me which colour the logo should have", "Which colour the logo should have?"),
        ("ask a person what the customer's name is.", "What the customer's name is?"),
        ("please ask someone for the order number", "What is the order number?"),
        ("Can you ask our team about the budget?", "What should I know about the budget?"),
        ("ask me whether to deploy", "Should I deploy?"),
        ("Ask the operator if the server is down", "Is it true that the server is down?"),
        ("ask my manager to confirm the order", "Please confirm the order."),
        ('ask me "How many   seats?" before anything else', "How many seats?"),
        ("First, ask us: how many seats", "How many seats?"),
        ("Before you answer, ask me which year", "Which year?"),
    ],
)
def test_a_question_for_a_person_is_worded(clause: str, question: str) -> None:
    """What follows the person is the question, in words that can be answered."""
    found = find_person_question(clause)
    assert found is not None
    assert found.question == question


@pytest.mark.parametrize(
    "clause",
    [
        "What did they ask me yesterday?",
        "Which page says whom to ask",
        "ask the database for rows",
        "Ask me",
        "a task for the team",
    ],
)
def test_other_clauses_ask_nobody(clause: str) -> None:
    """Only an instruction to ask a person, with something to ask, is one."""
    assert find_person_question(clause) is None
