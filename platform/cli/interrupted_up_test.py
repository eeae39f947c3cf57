"""Ctrl-C while `agentmesh up` waits for a mesh that is not ready."""

import os
import signal
import subprocess
import sys
from collections.abc import Iterator, Sequence
from pathlib import Path

import psutil
import pytest

_PROGRAM = "from cli.app import app; app.main(prog_name='agentmesh')"
_SAID = "Interrupted: the mesh was not ready yet, and what was started of it has ended."


@pytest.fixture
def silent_gateway(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """So that the mesh is not ready, however quick the machine is."""
    envoy = tmp_path / "envoy"
    envoy.write_text("#!/bin/sh\nexec sleep infinity\n")
    envoy.chmod(0o755)
    monkeypatch.setenv("ENVOY", str(envoy))


def _interrupted(folder: Path, options: Sequence[str]) -> tuple[int, list[str], list[int]]:
    """The end of an `up` that got Ctrl-C: exit code, what it told after it, what it had started."""
    with subprocess.Popen(
        [sys.executable, "-c", _PROGRAM, "up", "--data-dir", folder, "--port", "0", *options],
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
        env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
    ) as process:
        assert process.stdout is not None
        lines: Iterator[str] = iter(process.stdout)
        for line in lines:
            # The servers run; the gateway is what is waited for.
            if "redis        Redis" in line or "NATS 2" in line:
                break
        started = [each.pid for each in psutil.Process(process.pid).children(recursive=True)]
        process.send_signal(signal.SIGINT)
        told = [line.strip() for line in lines]
        return process.wait(), told, started


@pytest.mark.usefixtures("silent_gateway")
@pytest.mark.parametrize("how", [(), ("--detach",)])
def test_a_start_that_is_interrupted_says_so_and_leaves_nothing(
    tmp_path: Path, how: Sequence[str]
) -> None:
    """The exit code is 130, as of every interrupted command, and no process is left."""
    code, told, started = _interrupted(tmp_path / "data", how)
    assert (code, told[-1]) == (130, f"error: {_SAID}")
    assert told[-2].endswith("mesh         Stopping the mesh")
    assert len(started) >= 3
    assert [pid for pid in started if psutil.pid_exists(pid)] == []
