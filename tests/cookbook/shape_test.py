"""What counts as the same as on the page."""

import pytest

from tests.cookbook.recipe import Recipe, recipes
from tests.cookbook.shape import Differs, exit_code, match

_TASK = (
    '{"task": {"name": "tenants/a/tasks/01", "attempt": 1, "createTime": "2026-11-21T20:00:00Z"}}'
)


def test_what_a_reader_keeps_has_a_name() -> None:
    """A word in capitals stands for what was printed, and for the same ever after."""
    shown = '{"task": {"name": "tenants/a/tasks/<TASK>", "attempt": 1, "createTime": "<time>"}}'
    assert match(shown, _TASK, {}) == {"TASK": "01"}
    assert match(shown, _TASK, {"TASK": "01"}) == {"TASK": "01"}
    with pytest.raises(Differs, match=r"output 1\.task\.name is 'tenants/a/tasks/01', and not"):
        match(shown, _TASK, {"TASK": "02"})


@pytest.mark.parametrize(
    ("shown", "printed", "difference"),
    [
        ('{"a": 1}', '{"a": 2}', r"output 1\.a is 2, and not 1"),
        ('{"a": true}', '{"a": 1}', r"output 1\.a is 1, and not True"),
        ('{"a": "<number>"}', '{"a": "x"}', r"output 1\.a is 'x', and not '<number>'"),
        ('{"a": 1}', '{"a": 1, "b": 2}', "output 1 has more: b"),
        ('{"a": 1, "...": ""}', '{"b": 2}', r"output 1\.a is not there"),
        ('{"a": [1, 2]}', '{"a": [1]}', r"output 1\.a has 1 members, and not 2"),
        ('{"a": [1, "..."]}', '{"a": []}', r"output 1\.a has too few members"),
        ('{"a": ["...", 2, "..."]}', '{"a": [1, 3]}', r"output 1\.a lacks"),
        ('{"a": 1}', '{"a": 1} {"a": 1}', "output has 2 members, and not 1"),
        ("one\n...\nthree", "one\ntwo", "line 1 is 'two', and not 'three'"),
        ('{"a": 1}\nERROR:\n  Code: X', '{"a": 1}', "line has 0 members, and not 2"),
        ('{"a": 1}', "one", "output has 0 members, and not 1"),
    ],
)
def test_what_differs_is_told(shown: str, printed: str, difference: str) -> None:
    """Each value, member and line that is not as on the page, by its place."""
    with pytest.raises(Differs, match=difference):
        match(shown, printed, {})


@pytest.mark.parametrize(
    ("shown", "printed"),
    [
        ('{"a": 1, "...": "and more"}', '{"a": 1, "b": 2}'),
        ('{"a": "<number>"}', '{"a": 0.25}'),
        ('{"a": ["...", {"b": 2}, "..."]}', '{"a": [{"b": 1}, {"b": 2}, {"b": 3}]}'),
        ('{"a": 1}\n...\n{"a": 9}', '{"a": 1} {"a": 2} {"a": 3} {"a": 9}'),
        ('{"a": 1}\nERROR:\n  Code: X', '{"a": 1}\nERROR:\n\tCode:   X'),
        ("one\n...\nthree <text>", "one\n\ntwo\nthree more words"),
        (
            '{"results": [{"index": "1"}]} {"results": [{"index": "2"}, {"index": "10"}]}',
            '{"results": [{"index": "10"}, {"index": "1"}]} {"results": [{"index": "2"}]}',
        ),
    ],
)
def test_what_the_page_leaves_out_may_be_there(shown: str, printed: str) -> None:
    """Three dots stand for any more members, documents or lines, and blanks count for nothing."""
    assert match(shown, printed, {}) == {}


def test_the_end_of_a_command_follows_from_what_it_prints() -> None:
    """grpcurl ends with 64 and the code of the error; without an error with 0."""
    assert exit_code('{"a": 1}') == 0
    assert exit_code("agentmesh.access.v1.AccessService") == 0
    assert exit_code('Error invoking method "x": rpc error: code = Unauthenticated') == 1
    assert exit_code('{\n  "code": 8,\n  "message": "no"\n}') == 72
    assert exit_code('{"a": 1}\nERROR:\n  Code: DeadlineExceeded\n  Message: x') == 68


def test_a_command_is_followed_by_what_it_prints() -> None:
    """A block of commands without one is there, too: it says nothing."""
    page = "```sh\na\n```\ntext\n```sh\nb X/GetY\n```\n\n```json\n{}\n```\n```yaml\nc: 1\n```\n"
    assert recipes(page) == [Recipe(1, "a", None), Recipe(5, "b X/GetY", "{}")]
    assert [each.reads_only for each in recipes(page)] == [False, True]
