"""What processes use is counted by name, with their children."""

import os
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import psutil
import pytest

from bench.tasks.usage import usage

# Three generations, of which each says a line when its own child has.
_CHAIN = """
import subprocess, sys
deep = int(sys.argv[2])
if deep:
    child = subprocess.Popen(
        [sys.executable, "-c", sys.argv[1], sys.argv[1], str(deep - 1)], stdin=0, stdout=-1
    )
    child.stdout.readline()
print("up", flush=True)
sys.stdin.read()
"""


@pytest.fixture
def parent() -> Iterator[int]:
    """The pid of a process with a child that has one; all end when their input does."""
    with subprocess.Popen(
        [sys.executable, "-c", _CHAIN, _CHAIN, "2"], stdin=subprocess.PIPE, stdout=subprocess.PIPE
    ) as process:
        assert process.stdout is not None
        assert process.stdout.readline() == b"up\n"
        yield process.pid


def test_children_and_theirs_count_as_their_parent(parent: int, tmp_path: Path) -> None:
    """In memory and processor time; the folder's files have a size."""
    (tmp_path / "log").mkdir()
    (tmp_path / "log" / "1.blk").write_bytes(b"x" * 1000)
    found = usage({"tool": parent}, tmp_path)
    family = [psutil.Process(parent), *psutil.Process(parent).children(recursive=True)]
    assert len(family) == 3
    together = sum(each.memory_info().rss for each in family)
    assert found.rss_bytes["tool"] == pytest.approx(together, rel=0.1)
    assert found.cpu_seconds["tool"] > psutil.Process(parent).cpu_times().user
    assert found.data_bytes == 1000


def test_this_process_counts_alone(parent: int, tmp_path: Path) -> None:
    """Its children are the mesh's processes, and stand under names of their own."""
    found = usage({"services": os.getpid(), "tool": parent}, tmp_path)
    mine = psutil.Process().memory_info().rss
    assert found.rss_bytes["services"] == pytest.approx(mine, rel=0.1)


def test_a_process_that_is_gone_used_nothing(tmp_path: Path) -> None:
    """It is named all the same, and nothing fails."""
    with subprocess.Popen([sys.executable, "-c", ""]) as process:
        pass
    found = usage({"tool": process.pid}, tmp_path)
    assert (found.cpu_seconds, found.rss_bytes) == ({"tool": 0.0}, {"tool": 0})
    assert found.written_bytes == 0
