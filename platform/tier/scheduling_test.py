"""What take_turns changes, in a process of its own."""

import os
import subprocess
import sys

import pytest

_SCRIPT = """
import os, subprocess, sys
from tier.scheduling import take_turns

os.sched_setscheduler(0, int(sys.argv[1]), os.sched_param(0))
take_turns()
child = "import os; print(os.sched_getscheduler(0))"
subprocess.run([sys.executable, "-c", child], check=True)
"""


@pytest.mark.parametrize(
    ("chosen", "then"),
    [
        pytest.param(os.SCHED_OTHER, os.SCHED_BATCH, id="the system's own way"),
        pytest.param(os.SCHED_IDLE, os.SCHED_IDLE, id="a way that somebody chose"),
    ],
)
def test_what_a_process_starts_interrupts_nobody(chosen: int, then: int) -> None:
    """Children inherit it; whoever chose a policy before keeps that."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(sys.path)}
    command = [sys.executable, "-c", _SCRIPT, str(chosen)]
    told = subprocess.run(command, env=environment, check=True, capture_output=True, text=True)
    assert int(told.stdout) == then
