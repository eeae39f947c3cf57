"""Programs that are forked from a process which has imported what they need."""

import asyncio
import os
import signal
import sys
from collections.abc import AsyncGenerator
from pathlib import Path

import psutil
import pytest

from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.events import Event, Phase, Reporter
from tier.nursery import Born, Nursery

# A module as services have one: it is imported once, and its `main` is the program.
_MODULE = """
import os, sys, time
IMPORTED_BY = os.getpid()

def main():
    print("arguments", *sys.argv[1:], flush=True)
    print("folder", os.getcwd(), flush=True)
    print("variables", *(each for each in os.environ if each.startswith("HOUSE_")), flush=True)
    print("imported", "before" if IMPORTED_BY != os.getpid() else "now", flush=True)
    if "sleep" in sys.argv:
        time.sleep(600)
    sys.exit(7)
"""


@pytest.fixture
async def nursery(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> AsyncGenerator[Nursery]:
    """One that has imported the module `house`."""
    (tmp_path / "house.py").write_text(_MODULE)
    monkeypatch.setattr("sys.path", [str(tmp_path), *sys.path])
    monkeypatch.setenv("HOUSE_PASSWORD", "x")
    made = Nursery(["house"], tmp_path / "nursery.log")
    made.start()
    await made.ready()
    yield made
    made.stop()


def _bear(nursery: Nursery, folder: Path, *arguments: str) -> Born:
    with (folder / "house.log").open("ab") as log:
        born = nursery.bear(
            ("house", *arguments), working_dir=folder, environment={"HOUSE_NAME": "x"}, log=log
        )
    assert born is not None
    return born


async def test_what_is_born_is_a_process_of_its_own(nursery: Nursery, tmp_path: Path) -> None:
    """It has its arguments, folder, log and variables and no other, and ends as it says."""
    born = _bear(nursery, tmp_path, "--config", "a b")
    assert await asyncio.to_thread(born.wait) == 7
    assert (tmp_path / "house.log").read_text().splitlines() == [
        "arguments --config a b",
        f"folder {tmp_path}",
        "variables HOUSE_NAME",
        "imported before",
    ]


async def test_it_is_a_child_of_who_asked_and_leads_a_session(
    nursery: Nursery, tmp_path: Path
) -> None:
    """Its end is seen here, and a Ctrl-C in the terminal does not reach it."""
    born = _bear(nursery, tmp_path, "sleep")
    await eventually(lambda: "imported" in (tmp_path / "house.log").read_text())
    assert psutil.Process(born.pid).ppid() == os.getpid()
    assert os.getsid(born.pid) == born.pid
    assert born.poll() is None
    born.kill()
    assert await asyncio.to_thread(born.wait) == -signal.SIGKILL
    assert born.poll() == -signal.SIGKILL


async def test_without_a_nursery_a_child_is_started_as_others_are(
    nursery: Nursery, tmp_path: Path
) -> None:
    """A nursery that dies takes nobody with it, and keeps nobody from starting again."""
    log = tmp_path / "part.log"

    async def probe() -> str | None:
        return "1.0" if log.exists() and "imported" in log.read_text() else None

    told: list[Event] = []
    child = Child(
        ChildSpec(
            name="part",
            title="the part",
            command=(sys.executable, "-c", "import house; house.main()", "sleep"),
            program=("house", "sleep"),
            working_dir=tmp_path,
            log=log,
            ports=(),
            probe=probe,
            environment={"PYTHONPATH": str(tmp_path)},
        ),
        Reporter(told.append),
        RestartPolicy(first_delay_seconds=0.01),
        nursery,
    )
    child.spawn()
    await child.ready()
    watching = asyncio.create_task(child.watch(lambda: None))
    first = child.record.pid
    (record,) = nursery.records
    os.kill(record.pid, signal.SIGKILL)
    assert psutil.pid_exists(first)
    log.unlink()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: told[-1].phase is Phase.READY and child.record.pid != first)
    assert log.read_text().splitlines()[-1] == "imported now"
    watching.cancel()
    await child.stop()


async def test_one_that_dies_is_replaced(
    nursery: Nursery, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The next programs are forked again."""
    monkeypatch.setattr("tier.nursery._PAUSE_SECONDS", 0.01)
    told: list[Event] = []
    changes: list[int] = []
    watching = asyncio.create_task(
        nursery.watch(Reporter(told.append), lambda: changes.append(nursery.records[0].pid))
    )
    first = nursery.records[0].pid
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: len(changes) == 2)
    assert changes[0] == first != changes[1]
    assert [each.text for each in told] == [
        "The nursery of services died (killed by SIGKILL)",
        "The nursery of services is ready again",
    ]
    assert _bear(nursery, tmp_path).wait() == 7
    watching.cancel()


async def test_nobody_outlives_who_asked(tmp_path: Path) -> None:
    """Who is killed takes its nursery and all that was born along."""
    (tmp_path / "house.py").write_text(_MODULE)
    script = (
        "import asyncio, pathlib, sys, time\n"
        "from tier.nursery import Nursery\n"
        f"folder = pathlib.Path({str(tmp_path)!r})\n"
        "nursery = Nursery(['house'], folder / 'nursery.log')\n"
        "nursery.start()\n"
        "asyncio.run(nursery.ready())\n"
        "born = nursery.bear(('house', 'sleep'), working_dir=folder, environment={},"
        " log=(folder / 'house.log').open('ab'))\n"
        "print(born.pid, nursery.records[0].pid, flush=True)\n"
        "time.sleep(600)\n"
    )
    asker = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", script),
        stdout=asyncio.subprocess.PIPE,
        env={**os.environ, "PYTHONPATH": os.pathsep.join([str(tmp_path), *sys.path])},
    )
    assert asker.stdout is not None
    processes = [psutil.Process(int(each)) for each in (await asker.stdout.readline()).split()]
    await eventually(lambda: "imported" in (tmp_path / "house.log").read_text())
    asker.kill()
    await asker.wait()
    await eventually(lambda: not any(_lives(each) for each in processes))


def _lives(process: psutil.Process) -> bool:
    # This process adopts those that a killed one leaves, and may not have looked at their end.
    return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
