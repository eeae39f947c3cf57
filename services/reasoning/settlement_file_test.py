"""What one process could not settle, the next one does."""

from pathlib import Path

from services.reasoning.generation import Spending
from services.reasoning.governor import Settlement
from services.reasoning.settlement_file import SettlementFile


def _settlement(key: str) -> Settlement:
    return Settlement(Spending("acme", "user:ada", key, task_limit_micros=7), "offline", 10, 5)


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
    assert second.take_over() == [_settlement("a"), _settlement("b")]
    _died(second)
    third = SettlementFile(tmp_path, "third")
    assert third.take_over() == [_settlement("a"), _settlement("b")]
    assert [each.name for each in tmp_path.iterdir()] == ["third.jsonl"]


def test_a_process_that_lives_keeps_its_own(tmp_path: Path) -> None:
    """Two of them in one folder do not settle for each other."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    assert SettlementFile(tmp_path, "second").take_over() == []


def test_what_is_settled_is_forgotten(tmp_path: Path) -> None:
    """Nothing of it is left for the next process, and an orderly end leaves no file."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    first.clear()
    first.add(_settlement("b"))
    _died(first)
    second = SettlementFile(tmp_path, "second")
    assert second.take_over() == [_settlement("b")]
    second.clear()
    second.close()
    assert list(tmp_path.iterdir()) == []


def test_half_a_line_is_left_out(tmp_path: Path) -> None:
    """A process that died while it wrote had told nobody of the call."""
    first = SettlementFile(tmp_path, "first")
    first.add(_settlement("a"))
    _died(first)
    with (tmp_path / "first.jsonl").open("ab") as file:
        file.write(b'{"spending": {"tenant": "ac')
    assert SettlementFile(tmp_path, "second").take_over() == [_settlement("a")]
