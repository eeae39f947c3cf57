"""The last lines of a file, and those that come."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli.log_tail import Follower, follow, last_lines


@given(lines=st.lists(st.text("abc é", max_size=40), max_size=60), count=st.integers(0, 70))
def test_last_lines(tmp_path_factory: pytest.TempPathFactory, lines: list[str], count: int) -> None:
    """The last lines are those at the end of the file, in order."""
    path = tmp_path_factory.mktemp("log") / "x.log"
    path.write_text("".join(f"{line}\n" for line in lines), "utf-8")
    assert last_lines(path, count) == (lines[-count:] if count else [])


def test_last_lines_of_a_large_file(tmp_path: Path) -> None:
    """Lines longer than a read are found whole."""
    path = tmp_path / "x.log"
    path.write_text("first\n" + "x" * 200_000 + "\nlast\n", "utf-8")
    assert last_lines(path, 2) == ["x" * 200_000, "last"]


def test_follower_gives_complete_lines_once(tmp_path: Path) -> None:
    """Half a line waits for its end."""
    path = tmp_path / "x.log"
    path.write_text("old\n")
    follower = Follower(path)
    with path.open("a") as file:
        file.write("one\ntw")
        file.flush()
        assert follower.lines() == ["one"]
        file.write("o\n")
    assert follower.lines() == ["two"]
    assert follower.lines() == []


def test_follower_notices_a_new_file(tmp_path: Path) -> None:
    """A file that is replaced or cut is read from its start."""
    path = tmp_path / "x.log"
    path.write_text("old line\n")
    follower = Follower(path)
    (tmp_path / "new").write_text("a\n")
    (tmp_path / "new").rename(path)
    assert follower.lines() == ["a"]
    path.write_text("")
    assert follower.lines() == []
    path.write_text("b\n")
    assert follower.lines() == ["b"]


def test_follow_names_the_file(tmp_path: Path) -> None:
    """Lines of several files come with the names of their processes."""
    files = {name: tmp_path / f"{name}.log" for name in ("nats", "redis")}
    for path in files.values():
        path.write_text("old\n")
    pauses: list[float] = []

    def pause(seconds: float) -> None:
        pauses.append(seconds)
        files["redis"].write_text("old\nnew\n")

    lines = follow(files, pause=pause)
    assert next(lines) == ("redis", "new")
    assert len(pauses) == 1
