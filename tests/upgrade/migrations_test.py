"""Every step of the schemas leaves programs of the release before at work."""

import pytest
import sqlalchemy as sa

from tests.upgrade.migration_rules import Call, Step, faults, read_steps
from tier.binaries import repository_root
from tier.version import VERSION

# How many steps each had before the first release.
_UNNAMED = {"services/coordinator": 1, "services/governor": 4}
_OLD = Step("0001", "", (), ())
_ADDED = Step(
    "0002.0001", "0.2.0", (), (Call("add_column", ("task", sa.Column("x", sa.Text)), {}),)
)
_UNUSED = Step("0003.0002", "0.3.0", ("task.old", "task.x", "former"), ())


def _faults(*steps: Step) -> list[str]:
    return faults([_OLD, *steps], unnamed=1, version="0.4.0")


@pytest.mark.parametrize("service", _UNNAMED)
def test_programs_of_the_release_before_work_with_the_tables_of_today(service: str) -> None:
    """Each step adds, says whom its tables serve, and takes away what nobody uses."""
    steps = read_steps(repository_root() / service / "migrations" / "versions")
    assert len(steps) >= _UNNAMED[service]
    assert all(step.calls for step in steps[: _UNNAMED[service]])
    assert faults(steps, unnamed=_UNNAMED[service], version=VERSION) == []


@pytest.mark.parametrize(
    "call",
    [
        Call("drop_column", ("task", "old"), {}),
        Call("alter_column", ("task", "x"), {"nullable": False}),
        Call("drop_table", ("former",), {}),
        Call("drop_index", ("task_old",), {}),
        Call("create_index", ("task_y", "task", ["y"]), {}),
        Call("alter_column", ("task", "other"), {"nullable": True}),
        Call("execute", ("UPDATE task SET x = old",), {}),
        Call(
            "add_column", ("task", sa.Column("y", sa.Text, nullable=False, server_default="")), {}
        ),
    ],
)
def test_what_nobody_uses_any_more_may_go_in_the_third_release(call: Call) -> None:
    """The first added what takes its place, the second said that it uses the former no more."""
    assert _faults(_ADDED, _UNUSED, Step("0004.0003", "0.4.0", (), (call,))) == []


@pytest.mark.parametrize(
    ("call", "sentence"),
    [
        (Call("drop_column", ("task", "old"), {}), "drop_column takes away task.old, which no"),
        (Call("drop_table", ("former",), {}), "drop_table takes away former, which no step"),
        (Call("rename_table", ("former", "job"), {}), "rename_table takes away former"),
        (Call("alter_column", ("task", "x"), {"nullable": False}), "alter_column takes away"),
        (Call("alter_column", ("task", "x"), {"new_column_name": "y"}), "alter_column takes away"),
        (Call("alter_column", ("task", "x"), {"type_": sa.Text()}), "alter_column takes away"),
        (Call("execute", ("ALTER TABLE task DROP x",), {}), "what changes a table is said by"),
        (Call("create_unique_constraint", ("u", "task", ["x"]), {}), "create_unique_constraint re"),
        (Call("create_index", ("i", "task", ["x"]), {"unique": True}), "create_index refuses what"),
        (
            Call("add_column", ("task", sa.Column("y", sa.Text, nullable=False)), {}),
            "the column 'y' is NOT NULL without a server_default",
        ),
    ],
)
def test_what_programs_of_the_release_before_would_not_survive_is_found(
    call: Call, sentence: str
) -> None:
    """Each in a step that is right otherwise, in the release that stops using the former."""
    step = Step("0003.0002", "0.3.0", _UNUSED.unused, (call,))
    (found,) = _faults(_ADDED, step)
    assert found.startswith(f"0003.0002: {sentence}")


def test_tables_that_still_serve_those_who_use_it_take_nothing_away() -> None:
    """The step would let programs of 0002 start, and break them."""
    step = Step("0004.0002", "0.4.0", (), (Call("drop_table", ("former",), {}),))
    assert _faults(_ADDED, _UNUSED, step) == [
        "0004.0002: drop_table takes away former, which no step of an earlier release that"
        " programs of 0002 have names as unused."
    ]


@pytest.mark.parametrize(
    ("revision", "release", "sentence"),
    [
        ("0003.0002", "", "name its release, at most 0.4.0"),
        ("0003.0002", "0.5.0", "name its release, at most 0.4.0"),
        ("0003", "0.3.0", "name the oldest step whose programs its tables serve"),
        ("0003.0003", "0.3.0", "programs of the release before know the tables of 0002"),
        ("0004.0002", "0.3.0", "the step in this place is called 0003.OLDEST"),
    ],
)
def test_a_step_says_of_which_release_it_is_and_whom_its_tables_serve(
    revision: str, release: str, sentence: str
) -> None:
    """As programs of before go by its name."""
    (found,) = _faults(_ADDED, Step(revision, release, (), ()))
    assert f": {sentence}" in found
