"""Benchmarks leave no folders behind, however they end."""

import os
import signal
import subprocess
import sys
from pathlib import Path
from typing import IO, cast

import pytest

from bench.tasks.scratch import scratch

_USES_ONE = """
import sys
from pathlib import Path
from bench.tasks.scratch import scratch
with scratch(Path(sys.argv[1])) as folder:
    (folder / "data").mkdir()
    print(folder, flush=True)
    sys.stdin.read()
"""


def _using(parent: Path) -> tuple["subprocess.Popen[str]", Path]:
    """A process that uses a folder until it is told to end, and the folder."""
    process = subprocess.Popen(
        [sys.executable, "-c", _USES_ONE, str(parent)],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)},
    )
    return process, Path(cast(IO[str], process.stdout).readline().strip())


@pytest.mark.parametrize("error", [None, RuntimeError])
def test_a_folder_is_gone_afterwards(tmp_path: Path, error: type[Exception] | None) -> None:
    """With what is in it, also after an exception."""
    try:
        with scratch(tmp_path) as folder:
            (folder / "data").mkdir()
            if error:
                raise error
    except RuntimeError:
        pass
    assert list(tmp_path.iterdir()) == []


def test_what_a_killed_one_left_is_removed_by_the_next(tmp_path: Path) -> None:
    """What a living process uses stays, and so does what is none of a benchmark's."""
    (tmp_path / "agentmesh-bench").mkdir()
    (tmp_path / "agentmesh-bench-tasks-link").symlink_to(tmp_path / "agentmesh-bench")
    living, used = _using(tmp_path)
    killed, left = _using(tmp_path)
    killed.send_signal(signal.SIGKILL)
    killed.wait(20)
    assert (left / "data").is_dir()
    with scratch(tmp_path) as own:
        names = {path.name for path in tmp_path.iterdir()}
        assert names == {"agentmesh-bench", "agentmesh-bench-tasks-link", own.name, used.name}
        assert (used / "data").is_dir()
    living.communicate(timeout=20)
    assert not used.exists()
