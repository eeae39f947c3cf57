"""Tests of what a mesh remembers of how many processes its parts had."""

import os
from pathlib import Path

import pytest

from tier.failures import ScaleNotKept, ScaleUnreadable
from tier.scale_file import NAME, ScaleFile


def test_what_was_asked_for_is_there_until_it_is_forgotten(tmp_path: Path) -> None:
    """Part by part, the last count of each; nothing else is left in the folder."""
    file = ScaleFile(tmp_path)
    assert file.read() == {}
    file.keep({"reasoning": 3, "tool": 2})
    file.keep({"tool": 1, "executor": 64})
    assert ScaleFile(tmp_path).read() == {"reasoning": 3, "tool": 1, "executor": 64}
    assert os.listdir(tmp_path) == [NAME]
    assert file.forget()
    assert not file.forget()
    assert file.read() == {}


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (b"", "it is no JSON"),
        (b"\xff", "it is no JSON"),
        (b"[1]", "it is no JSON object"),
        (b'{"tool": 0}', "0 processes of tool make no sense"),
        (b'{"tool": "2"}', "'2' processes of tool make no sense"),
        (b'{"tool": 65}', "65 processes of tool make no sense"),
        (
            b'{"gateway": 2}',
            "The mesh has no part 'gateway': choose among coordinator, executor, governor, memory,"
            " reasoning, tool",
        ),
    ],
)
def test_a_damaged_file_is_named_and_left_alone(tmp_path: Path, content: bytes, cause: str) -> None:
    """Whoever reads it or adds to it; it can be forgotten."""
    (tmp_path / NAME).write_bytes(content)
    for use in (ScaleFile(tmp_path).read, lambda: ScaleFile(tmp_path).keep({"tool": 2})):
        with pytest.raises(ScaleUnreadable) as caught:
            use()
        assert str(caught.value) == (
            f"{tmp_path / NAME} does not say how many processes parts have ({cause}): mend it, or"
            " go back to one of each with `agentmesh scale --forget`."
        )
    assert (tmp_path / NAME).read_bytes() == content
    assert ScaleFile(tmp_path).forget()


def test_what_cannot_be_written_is_told(tmp_path: Path) -> None:
    """The processes run, and somebody has to know that the next start forgets them."""
    folder = tmp_path / "gone"
    with pytest.raises(ScaleNotKept) as caught:
        ScaleFile(folder).keep({"tool": 2})
    assert str(caught.value) == (
        f"{folder / NAME} cannot be written (No such file or directory): the processes run, but"
        " the next `agentmesh up` does not start as many."
    )
