"""A child process over its lives."""

import asyncio
import os
import re
import signal
import stat
from collections.abc import Callable
from pathlib import Path

import pytest

from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.events import Event, Phase, Reporter
from tier.failures import StartFailed

_LIMIT = 4
_QUICK = RestartPolicy(first_delay_seconds=0.01, factor=1, limit=_LIMIT, well_after_seconds=60)
# Lives from the first start; what a later start does depends on the folder.
_SCRIPT = """
echo run >> runs
[ "$(wc -l < runs)" = 1 ] || [ -e mended ] || { echo 'no luck' >&2; exit 3; }
touch ready
exec sleep 600
"""
_POLITE = "trap 'echo interrupted; exit 0' INT; touch ready; while :; do sleep 0.1; done"


def _child(folder: Path, report: Callable[[Event], None], script: str = _SCRIPT) -> Child:
    async def probe() -> str | None:
        return "1.0" if (folder / "ready").exists() else None

    async def sick() -> str:
        if (folder / "silent").exists():
            raise TimeoutError
        return "a full disk" if (folder / "sick").exists() else ""

    spec = ChildSpec(
        name="part",
        title="the part",
        command=("/bin/sh", "-c", script),
        working_dir=folder,
        log=folder / "part.log",
        ports=(),
        probe=probe,
        sick=sick,
        ready_within_seconds=60,
        stop_within_seconds=0.3,
        given=frozenset(("HOUSE_KEY",)),
    )
    return Child(spec, Reporter(report), _QUICK)


def _runs(folder: Path) -> int:
    return len((folder / "runs").read_text().splitlines())


async def test_it_is_tried_again_until_it_comes_up(tmp_path: Path) -> None:
    """A child whose restarts fail at first is well again as soon as one succeeds."""
    told: list[Event] = []
    restarted: list[int] = []
    child = _child(tmp_path, told.append)
    child.spawn()
    await child.ready()
    first = child.record.pid
    watching = asyncio.create_task(child.watch(lambda: restarted.append(child.record.pid)))
    (tmp_path / "ready").unlink()
    os.kill(first, signal.SIGKILL)
    await eventually(lambda: _runs(tmp_path) >= 3)
    (tmp_path / "mended").touch()
    await eventually(lambda: told[-1].phase is Phase.READY)
    assert child.record.pid != first
    assert told[2].text == "the part died (killed by SIGKILL)"
    record = child.record
    assert record.restarts == _runs(tmp_path) - 1 == len(set(restarted)) - 1
    assert re.fullmatch(r"exit code 3 at 20\d\d-\S+Z: no luck", record.last_death)
    watching.cancel()
    await child.stop()


async def test_one_that_is_sick_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that lives and says that it cannot get well is ended; one that is slow is not."""
    monkeypatch.setattr("tier.child._LOOK_SECONDS", 0.02)
    told: list[Event] = []
    (tmp_path / "mended").touch()
    child = _child(tmp_path, told.append)
    child.spawn()
    await child.ready()
    first = child.record.pid
    (tmp_path / "silent").touch()
    (tmp_path / "sick").touch()
    watching = asyncio.create_task(child.watch(lambda: None))
    with pytest.raises(AssertionError):
        await eventually(lambda: child.record.pid != first, timeout_seconds=0.3)
    (tmp_path / "silent").unlink()
    await eventually(lambda: child.record.pid != first)
    (tmp_path / "sick").unlink()
    assert child.record.last_death.startswith("a full disk at 20")
    assert "the part died (a full disk)" in [event.text for event in told]
    watching.cancel()
    await child.stop()


async def test_one_that_is_sick_before_it_is_ready_is_started_again(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Its time to get ready is not waited for, and its restarts are not counted as failures."""
    monkeypatch.setattr("tier.child._LOOK_SECONDS", 0.02)
    told: list[Event] = []
    (tmp_path / "sick").touch()
    (tmp_path / "runs").touch()
    child = _child(tmp_path, told.append, "echo run >> runs; exec sleep 600")
    child.spawn()
    with pytest.raises(StartFailed, match="a full disk"):
        await child.ready()
    watching = asyncio.create_task(child.watch(lambda: None))
    await eventually(lambda: _runs(tmp_path) > 2 * _LIMIT)
    (tmp_path / "sick").unlink()
    (tmp_path / "ready").touch()
    await eventually(lambda: told[-1].phase is Phase.READY)
    assert "the part died (a full disk)" in [event.text for event in told]
    watching.cancel()
    await child.stop()


async def test_it_is_given_no_secret_but_its_own(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What looks like a secret stays with the parent, unless the child is to have it."""
    for name in ("OPENAI_API_KEY", "OPENAI_BASE_URL", "A_TOKEN", "HOUSE_KEY", "HOUSE_NAME"):
        monkeypatch.setenv(name, "x")
    child = _child(tmp_path, lambda _: None, "env > seen; touch ready; exec sleep 600")
    child.spawn()
    await child.ready()
    await child.stop()
    seen = {line.partition("=")[0] for line in (tmp_path / "seen").read_text().splitlines()}
    assert {"HOUSE_KEY", "HOUSE_NAME", "PATH"} <= seen
    assert not seen & {"OPENAI_API_KEY", "OPENAI_BASE_URL", "A_TOKEN"}


async def test_what_it_writes_is_its_owners_alone(tmp_path: Path) -> None:
    """Files and folders are closed to others, whatever the folder is and the user is used to."""
    before = os.umask(0o022)
    try:
        child = _child(
            tmp_path, lambda _: None, "mkdir made; touch made/file; touch ready; sleep 9"
        )
        child.spawn()
    finally:
        os.umask(before)
    await child.ready()
    modes = [stat.S_IMODE((tmp_path / each).stat().st_mode) for each in ("made", "made/file")]
    await child.stop()
    assert modes == [0o700, 0o600]


async def test_it_ends_at_the_signal_that_it_wants(tmp_path: Path) -> None:
    """Some servers end in order, and at once, at another signal than others."""

    async def ready() -> str | None:
        return "1.0" if (tmp_path / "ready").exists() else None

    spec = ChildSpec(
        name="part",
        title="the part",
        command=("/bin/sh", "-c", _POLITE),
        working_dir=tmp_path,
        log=tmp_path / "part.log",
        ports=(),
        probe=ready,
        stop_signal=signal.SIGINT,
    )
    child = Child(spec, Reporter(lambda _: None), _QUICK)
    child.spawn()
    await child.ready()
    await child.stop()
    assert spec.log.read_text() == "interrupted\n"


async def test_it_stays_down_when_nothing_helps(tmp_path: Path) -> None:
    """A child that dies again and again is given up, with its last words."""
    told: list[Event] = []
    child = _child(tmp_path, told.append)
    child.spawn()
    await child.ready()
    (tmp_path / "ready").unlink()
    os.kill(child.record.pid, signal.SIGKILL)
    with pytest.raises(StartFailed) as caught:
        await child.watch(lambda: None)
    assert str(caught.value) == (
        "Failed to start the part: it died too often, last exit code 3. "
        f"See {tmp_path / 'part.log'}."
    )
    assert _runs(tmp_path) == 1 + _LIMIT
    assert told[-1].phase is Phase.FAILED


async def test_one_that_takes_its_time_is_waited_for(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A child that does not answer yet is told of now and then, until it does."""
    monkeypatch.setattr("tier.child._TELL_SECONDS", 0.02)
    told: list[Event] = []
    child = _child(tmp_path, told.append, "exec sleep 600")
    child.spawn()
    ready = asyncio.create_task(child.ready())
    await eventually(lambda: len(told) >= 3)
    (tmp_path / "ready").touch()
    await ready
    phases = [event.phase for event in told]
    assert phases == [Phase.STARTING, *[Phase.WAITING] * (len(told) - 2), Phase.READY]
    assert re.fullmatch(r"Still waiting for the part: no answer for \d+ s", told[1].text)
    await child.stop()


async def test_one_that_must_live_and_dies_is_told_at_once(tmp_path: Path) -> None:
    """With its last words; it is not started again."""
    child = _child(tmp_path, lambda _: None, "touch ready; read _ < gate; echo 'no more'; exit 3")
    os.mkfifo(tmp_path / "gate")
    child.spawn()
    await child.ready()
    living = asyncio.create_task(child.must_live())
    # Opening it waits for the child, which reads a line and ends.
    await asyncio.to_thread((tmp_path / "gate").write_text, "end\n")
    with pytest.raises(StartFailed) as caught:
        await living
    assert str(caught.value) == (
        "Failed to start the part: it ended (exit code 3) after saying: no more. "
        f"See {tmp_path / 'part.log'}."
    )


@pytest.mark.parametrize(
    ("script", "words"),
    [
        (
            "echo 'wrong kind of machine'; exit 3",
            "(exit code 3) after saying: wrong kind of machine",
        ),
        ("exit 0", "(exit code 0) and said nothing"),
    ],
)
async def test_its_last_words_are_of_this_life(tmp_path: Path, script: str, words: str) -> None:
    """A child that does not come up is told with its words, not with those of one before it."""
    log = tmp_path / "part.log"
    log.write_text("the part has ended\n")
    child = _child(tmp_path, lambda _: None, script)
    child.spawn()
    with pytest.raises(StartFailed) as caught:
        await child.ready()
    assert str(caught.value) == f"Failed to start the part: it ended {words}. See {log}."


async def test_it_is_ended_by_force_where_it_will_not(tmp_path: Path) -> None:
    """A child that ignores SIGTERM is killed after its time."""
    script = "trap '' TERM; touch ready; while :; do read -t 9 _ || :; done"
    child = _child(tmp_path, lambda _: None, script)
    child.spawn()
    await child.ready()
    pid = child.record.pid
    await child.stop()
    with pytest.raises(ProcessLookupError):
        os.kill(pid, 0)
