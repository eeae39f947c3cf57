"""Tests of how many processes a part may have."""

import pytest

from tier import scaling
from tier.failures import BadOptions


@pytest.mark.parametrize(
    ("part", "present", "count", "more"),
    [
        ("reasoning", ["reasoning"], 3, ("reasoning-2", "reasoning-3")),
        ("reasoning", ["reasoning-1", "reasoning-2"], 3, ("reasoning-3",)),
        ("executor", ["executor-1"], 2, ("executor-2",)),
        ("executor", ["executor-1", "executor-3"], 3, ("executor-2",)),
        ("tool", ["tool"], 1, ()),
    ],
)
def test_new_processes_have_names_that_nobody_has(
    part: str, present: list[str], count: int, more: tuple[str, ...]
) -> None:
    """Whether the first one has a number or not."""
    assert scaling.more_names(part, present, count) == more


def test_executors_have_numbers_and_others_only_where_there_are_several() -> None:
    """As in logs and in `status`."""
    assert scaling.names("executor", 1) == ("executor-1",)
    assert scaling.names("tool", 1) == ("tool",)
    assert scaling.names("tool", 2) == ("tool-1", "tool-2")


@pytest.mark.parametrize(
    ("wanted", "text"),
    [
        (
            {"gateway": 2},
            "The mesh has no part 'gateway': choose among coordinator, executor, governor, memory,"
            " reasoning, tool.",
        ),
        ({"tool": 0}, "0 processes of tool make no sense: choose 1 to 16."),
        ({"tool": 17}, "17 processes of tool make no sense: choose 1 to 16."),
        (
            {"memory": 2},
            "There can be one memory alone, for its vectors are files: memory.qdrant_url may name"
            " a Qdrant.",
        ),
        (
            {"tool": 2, "coordinator": 2},
            "There can be one coordinator alone, for its read model is a file:"
            " coordinator.read_model may name a PostgreSQL.",
        ),
    ],
)
def test_what_cannot_be_is_refused_with_the_reason(wanted: dict[str, int], text: str) -> None:
    """Before anything is started."""
    with pytest.raises(BadOptions) as caught:
        scaling.check(wanted, {})
    assert str(caught.value) == text


def test_what_keeps_nothing_in_files_may_have_several_processes() -> None:
    """And so may the others where what they keep is elsewhere."""
    scaling.check(dict.fromkeys(("governor", "reasoning", "tool", "executor"), 16), {})
    scaling.check({"memory": 1, "coordinator": 1}, {})
    elsewhere = {
        "memory": {"qdrant_url": "http://127.0.0.1:6333"},
        "coordinator": {"read_model": "postgresql://mesh@127.0.0.1/mesh"},
    }
    scaling.check({"memory": 2, "coordinator": 2}, elsewhere)
