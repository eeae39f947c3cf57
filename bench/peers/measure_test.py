"""What a peer's processes cost, measured from outside with real ones."""

import os
import subprocess
import sys
from pathlib import Path
from typing import Any

import psutil
import pytest

from bench.peers.child import child, with_parent
from bench.peers.closed_loop import Load
from bench.peers.measure import measure, peer_environment
from bench.peers.peer import Figures, PeerUnavailable
from bench.peers.processor_time import processor_seconds

_PYTHON = Path(sys.executable)
_LOAD = Load(in_flight=4, warm_up_seconds=0.1, seconds=0.4)

_DRIVER = """
import asyncio, json, sys, time
from bench.peers.closed_loop import load_of, run

options = json.loads(sys.argv[1])

async def task(number):
    begun = time.thread_time()
    while time.thread_time() < begun + options["busy_seconds"]:
        pass
    await asyncio.sleep(0)

asyncio.run(run(load_of(options), task))
"""

_PARENT = """
import os, subprocess, sys, time
child = subprocess.Popen([sys.executable, "-c", "import time; time.sleep(300)"],
                         start_new_session=True)
print(child.pid, flush=True)
time.sleep(300)
"""


def _measure(tmp_path: Path, driver: str, **options: Any) -> Figures:
    path = tmp_path / "driver.py"
    path.write_text(driver, "utf-8")
    with child(
        "The server",
        with_parent([_PYTHON, "-c", "import time; time.sleep(300)"]),
        log=tmp_path / "server.log",
        environment=os.environ,
        ready=lambda: True,
    ) as server:
        return measure(
            _PYTHON,
            path,
            _LOAD,
            options,
            parts={"server": server},
            driver_part="client",
            environment=peer_environment(os.environ),
            log=tmp_path / "driver.log",
        )


def test_tasks_and_their_processor_time_are_counted(tmp_path: Path) -> None:
    """A task that computes for 50 ms costs its process at least that, and an idle one less."""
    figures = _measure(tmp_path, _DRIVER, busy_seconds=0.05)
    assert 0 < figures.tasks_per_minute <= 60 / 0.05
    assert figures.p99_ms >= figures.p50_ms >= 50
    # The kernel counts in ticks of 10 ms, and a busy machine leaves time for a task or two alone.
    assert 35 < figures.cpu_ms["client"] < 200
    assert figures.cpu_ms["server"] < figures.cpu_ms["client"]
    assert figures.cpu_ms_per_task == sum(figures.cpu_ms.values())


def test_a_driver_that_fails_is_quoted(tmp_path: Path) -> None:
    """Its last line says why there are no figures."""
    with pytest.raises(PeerUnavailable) as caught:
        _measure(tmp_path, "raise ValueError('no such table')")
    assert str(caught.value) == "The load failed: ValueError: no such table"


def test_a_driver_that_says_no_result_failed(tmp_path: Path) -> None:
    """Even where it ends well."""
    with pytest.raises(PeerUnavailable) as caught:
        _measure(tmp_path, "")
    assert str(caught.value) == "The load failed: it said nothing."


def test_children_that_have_ended_count() -> None:
    """What they used is their parent's from then on."""
    before = processor_seconds(os.getpid())
    burn = "import time\nwhile time.process_time() < 0.3: pass"
    subprocess.run([sys.executable, "-c", burn], check=True)
    assert processor_seconds(os.getpid()) - before >= 0.25


def test_a_process_that_is_gone_used_nothing() -> None:
    """It is no error that it ended."""
    process = subprocess.Popen([sys.executable, "-c", ""])
    process.wait()
    assert processor_seconds(process.pid) == 0.0


@pytest.fixture(name="log")
def _log(tmp_path: Path) -> Path:
    return tmp_path / "server.log"


def test_a_server_ends_with_the_children_it_leaves(log: Path) -> None:
    """Also those that made themselves independent of it."""
    with child(
        "The server",
        with_parent([_PYTHON, "-c", _PARENT]),
        log=log,
        environment=os.environ,
        ready=lambda: b"\n" in log.read_bytes(),
    ) as pid:
        left = psutil.Process(int(log.read_text("utf-8")))
        assert left.is_running()
    assert not psutil.pid_exists(pid)
    _, alive = psutil.wait_procs([left], timeout=60)
    assert alive == [] or alive[0].status() == psutil.STATUS_ZOMBIE


def test_a_server_that_ends_at_once_is_quoted(log: Path) -> None:
    """With the last line of its log."""
    command = [_PYTHON, "-c", "print('first'); raise SystemExit('the port is taken')"]
    with (
        pytest.raises(PeerUnavailable) as caught,
        child(
            "The server",
            with_parent(command),
            log=log,
            environment=os.environ,
            ready=lambda: False,
        ),
    ):
        pass
    assert str(caught.value).startswith("The server ended at its start: ")


def test_a_server_that_is_not_ready_is_ended(log: Path) -> None:
    """It is not left running."""
    with (
        pytest.raises(PeerUnavailable) as caught,
        child(
            "The server",
            with_parent([_PYTHON, "-c", "import time; time.sleep(300)"]),
            log=log,
            environment=os.environ,
            ready=lambda: False,
            ready_seconds=0.2,
        ),
    ):
        pass
    assert str(caught.value) == "The server was not ready within 0.2 s: it said nothing."
    assert not [
        each for each in psutil.Process().children() if "time.sleep(300)" in each.cmdline()[-1:]
    ]
