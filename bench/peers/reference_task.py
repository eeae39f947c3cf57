"""The reference task that every system runs: stub model, stub tool, stub model.

Imported by the programs that run inside a peer's own environment: only Python's
own library may be used here.
"""

from typing import Final

# What each step is given and gives back, in bytes.
SIZE: Final = 200


def question(number: int) -> str:
    """What the task with that number is asked."""
    return f"question {number} ".ljust(SIZE, "?")


def model(text: str) -> str:
    """What the stub model answers, at once."""
    return f"model: {text}"[:SIZE]


def tool(text: str) -> str:
    """What the stub tool answers, at once."""
    return f"tool: {text}"[:SIZE]


def check(number: int, answer: str) -> None:
    """Makes sure that a task went through its three steps.

    Raises:
        ValueError: The answer is another one.
    """
    expected = model(tool(model(question(number))))
    if answer != expected:
        raise ValueError(f"Task {number} answered {answer!r}, expected {expected!r}.")
