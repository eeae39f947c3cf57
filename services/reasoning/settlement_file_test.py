"""What one process could not settle, the next one does."""

import errno
import json
import os
import resource
import signal
import subprocess
import sys
from pathlib import Path

import pytest

from meshkit.errors import InvalidField
from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.model import Tier
from services.reasoning.settlement_file import SettlementFile


def _settlement(key: str) -> Settlement:
    spending = Spending("acme", "user:ada", key, "chat", "helper", "s1", "tenants/acme/tasks/t")
    return Settlement(
        spending, "offline", 10, 5, Tier.FAST, "2025-12-01", "lease", 7, 1_767_225_600_000, 4
    )


def _died(file: SettlementFile) -> None:
    """The process is gone, and with it the lock."""
    file._file.close()  # pyright: ignore[reportPrivateUsage]


def test_the_next_process_takes_over_what_was_left(tmp_path: Path) -> None:
    """Once: whoever comes after that finds it with the one who took it."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    first.add(_settlement("b"))
    _died(first)
    second = SettlementFile(tmp_path, "second")
    assert [*second.take_over()] == [_settlement("a"), _settlement("b")]
    _died(second)
    third = SettlementFile(tmp_path, "third")
    assert [*third.take_over()] == [_settlement("a"), _settlement("b")]
    assert [each.name for each in tmp_path.iterdir()] == ["third-1.jsonl"]


def test_a_process_that_lives_keeps_its_own(tmp_path: Path) -> None:
    """Two of them in one folder do not settle for each other."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    assert [*SettlementFile(tmp_path, "second").take_over()] == []


def test_what_is_settled_is_forgotten(tmp_path: Path) -> None:
    """Nothing of it is left for the next process, and an orderly end leaves no file."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    first.clear()
    first.add(_settlement("b"))
    _died(first)
    second = SettlementFile(tmp_path, "second")
    assert [*second.take_over()] == [_settlement("b")]
    second.clear()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    """A process that died while it wrote had told nobody of the call."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    _died(first)
    with (tmp_path / "first-1.jsonl").open("ab") as file:
        file.write(b'{"spending": {"tenant": "ac')
    assert [*SettlementFile(tmp_path, "second").take_over()] == [_settlement("a")]


def test_what_an_older_version_left_is_taken_over(tmp_path: Path) -> None:
    """It knew neither tiers nor leases, and kept the cap."""
    spending = {"tenant": "acme", "caller": "user:ada", "key": "a", "task_limit_micros": 7}
    line = {"spending": spending, "model": "offline", "input_tokens": 10, "output_tokens": 5}
    (tmp_path / "old.jsonl").write_text(json.dumps(line) + "\n")
    assert [*SettlementFile(tmp_path, "second").take_over()] == [
        Settlement(Spending("acme", "user:ada", "a", task_limit_micros=7), "offline", 10, 5)
    ]


def test_what_is_left_after_it_was_replaced_is_all_that_is_taken_over(tmp_path: Path) -> None:
    """A file that is never empty is shortened to what waits, and goes on from there."""
    first = SettlementFile(tmp_path, "first", large_bytes=1000)
    for key in "abcdef":
        assert not first.is_large or key > "c"
        first.add(_settlement(key))
    assert first.is_large
    first.replace([_settlement("e"), _settlement("f")])
    assert not first.is_large
    first.add(_settlement("g"))
    assert len(list(tmp_path.iterdir())) == 1
    _died(first)
    left = [*SettlementFile(tmp_path, "second").take_over()]
    assert left == [_settlement("e"), _settlement("f"), _settlement("g")]


def test_half_a_line_for_which_there_was_no_room_spoils_none(tmp_path: Path) -> None:
    """The disk is full in the middle of a line: it is cut off, and told as an error."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    size = (tmp_path / "first-1.jsonl").stat().st_size
    soft, hard = resource.getrlimit(resource.RLIMIT_FSIZE)
    # The system's own limit does what a full disk does; without the signal it is an error.
    ignored = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size + 20, hard))
    try:
        with pytest.raises(OSError, match="No space left") as caught:
            first.add(_settlement("b"))
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, (soft, hard))
        signal.signal(signal.SIGXFSZ, ignored)
    assert caught.value.errno == errno.ENOSPC
    first.add(_settlement("c"))
    _died(first)
    left = [*SettlementFile(tmp_path, "second").take_over()]
    assert left == [_settlement("a"), _settlement("c")]


def test_what_the_governor_refuses_is_set_aside(tmp_path: Path) -> None:
    """With the reason. Nobody takes it over, until somebody renames it."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    first.refuse(_settlement("a"), InvalidField("session", "must have no blank"))
    first.clear()
    _died(first)
    (line,) = (tmp_path / "first.refused").read_text().splitlines()
    assert json.loads(line)["refused"] == {
        "reason": "INVALID_FIELD",
        "message": "session: must have no blank",
    }
    second = SettlementFile(tmp_path, "second")
    assert [*second.take_over()] == []
    (tmp_path / "first.refused").rename(tmp_path / "again.jsonl")
    assert [*second.take_over()] == [_settlement("a")]


def test_what_only_another_version_can_read_is_set_aside(tmp_path: Path) -> None:
    """A whole line stands for a call that was paid."""
    line = '{"spending":{"tenant":"acme"},"model":"offline","of_tomorrow":1}\n'
    (tmp_path / "first.jsonl").write_text(line)
    second = SettlementFile(tmp_path, "second")
    assert [*second.take_over()] == []
    assert (tmp_path / "second.refused").read_text() == line
    assert not (tmp_path / "first.jsonl").exists()


def test_a_file_that_cannot_be_read_keeps_none_of_the_others_back(tmp_path: Path) -> None:
    """They are given first, then the error; it is tried again the next time."""
    (tmp_path / "a.jsonl").mkdir()
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    _died(first)
    second = SettlementFile(tmp_path, "second")
    taken = second.take_over()
    assert next(taken) == _settlement("a")
    with pytest.raises(IsADirectoryError):
        next(taken)
    (tmp_path / "a.jsonl").rmdir()
    assert [*second.take_over()] == []


_WRITER = """
import sys
from pathlib import Path
from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.settlement_file import SettlementFile

file = SettlementFile(Path(sys.argv[1]), "writer", large_bytes=2000)
number = 0
while True:
    settlement = Settlement(Spending("acme", "user:ada", str(number)), "offline", number, number)
    file.add(settlement)
    if file.is_large:
        file.replace([settlement])
    print(number, flush=True)
    number += 1
"""


def test_a_killed_process_loses_nothing_that_it_told_of(tmp_path: Path) -> None:
    """SIGKILL at any moment: the last call whose answer went out is in the file, whole."""
    with subprocess.Popen(
        [sys.executable, "-c", _WRITER, str(tmp_path)],
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)},
    ) as writer:
        assert writer.stdout is not None
        told = [int(writer.stdout.readline()) for _ in range(200)]
        writer.kill()
        told += [int(line) for line in writer.stdout if line.endswith("\n")]
    left = {each.input_tokens for each in SettlementFile(tmp_path, "next").take_over()}
    # The next one may have taken the place of all others before it could be told.
    assert told[-1] in left or left == {told[-1] + 1}
    assert left <= {*range(told[-1] + 2)}
