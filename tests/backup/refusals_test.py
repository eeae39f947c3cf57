"""What a restore refuses, and that it leaves everything as it was."""

import asyncio
import json
import os
import re
import subprocess
import sys
import zipfile
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from datetime import UTC, datetime
from pathlib import Path
from typing import IO, Any

import pytest
from click.testing import CliRunner, Result

from backup import api
from backup.api import BackupError
from backup.archive import MANIFEST, PART
from cli.app import app
from meshkit.bus import Bus, StreamSpec
from meshkit.clock import SystemClock
from meshtest.eventually import eventually
from tier.backoff import RestartPolicy
from tier.binaries import NATS, REDIS, find
from tier.child import Child
from tier.data_dir import RESTORING, DataDir
from tier.events import Event, Reporter
from tier.failures import AlreadyRunning, MeshStartError, RestoreUnfinished
from tier.nats_child import nats_child
from tier.options import Tier
from tier.ports import free_ports
from tier.redis_child import redis_child
from tier.state import MeshState, ProcessRecord, start_ticks, write_state

_SPEC = StreamSpec("THINGS", ("things.>",), "Things.")
_CHILD_SECONDS = 60.0
_Process = subprocess.Popen[bytes]


def _ignore(_step: api.Step) -> None:
    pass


def _unheard(_event: Event) -> None:
    pass


@asynccontextmanager
async def _servers(data_dir: DataDir, *, nats_port: int = 0) -> AsyncGenerator[str]:
    """NATS and Redis on a data directory, as a mesh runs them; the address of NATS."""
    free_port, monitor_port, redis_port = free_ports(3)
    nats_port = nats_port or free_port
    specs = (
        nats_child(find(NATS, os.environ), data_dir, nats_port, monitor_port, flushes=False),
        redis_child(find(REDIS, os.environ), data_dir, redis_port),
    )
    children = [Child(each, Reporter(_unheard), RestartPolicy()) for each in specs]
    try:
        for each in children:
            each.spawn()
        for each in children:
            await each.ready()
        yield f"nats://127.0.0.1:{nats_port}"
    finally:
        for each in children:
            await each.stop()


async def _data(folder: Path, *, things: int = 3) -> Path:
    """A data directory of a mesh that has ended."""
    data_dir = DataDir(folder / "data")
    data_dir.prepare()
    async with _servers(data_dir) as url, await Bus.connect(url, name="test") as bus:
        await bus.ensure_stream(_SPEC)
        for number in range(things):
            await bus.publish(f"things.{number}", b"x" * 1000, message_id=f"{number}")
    return data_dir.path


async def _count(folder: Path) -> int:
    data_dir = DataDir(folder)
    data_dir.prepare()
    async with _servers(data_dir) as url, await Bus.connect(url, name="test") as bus:
        info = await bus.stream_info("THINGS")
        assert info is not None
        return int(info["state"]["messages"])


def _run(*arguments: object) -> Result:
    return CliRunner().invoke(app, [str(each) for each in arguments], prog_name="agentmesh")


def _spawn(*arguments: object, out: int | IO[bytes] = subprocess.DEVNULL) -> _Process:
    """A command in a process of its own."""
    program = "from cli.app import app; app.main(prog_name='agentmesh')"
    command = [sys.executable, "-c", program, *(str(each) for each in arguments)]
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    return subprocess.Popen(command, env=environment, stdout=out, stderr=subprocess.DEVNULL)


async def _json(folder: Path, *arguments: object) -> dict[str, Any]:
    """What a command says."""
    out = folder / "out.json"
    with out.open("wb") as into:
        child = _spawn(*arguments, "--json", out=into)
        assert await asyncio.to_thread(child.wait, _CHILD_SECONDS) == 0
    return json.loads(out.read_text("utf-8"))


async def test_a_mesh_that_does_not_run_is_saved_and_restored(tmp_path: Path) -> None:
    """By commands, with JSON; what is saved is told, and what was restored is the same."""
    data = await _data(tmp_path)
    (data / "access").mkdir()
    (data / "access" / "local.key").write_text("secret")
    (data / "access" / "current").symlink_to("local.key")
    made = await _json(tmp_path, "backup", tmp_path / "one.backup", "--data-dir", data)
    assert (made["path"], made["tier"]) == (str(tmp_path / "one.backup"), "")
    (stream,) = made["streams"]
    assert (stream["name"], stream["state"]["messages"]) == ("THINGS", 3)
    for server in ("nats", "redis"):
        assert re.fullmatch(r"\d+\.\d+\.\d+", made["versions"][server])
    seen = await _json(tmp_path, "backup", "verify", tmp_path / "one.backup")
    assert seen["members"] == made["members"]
    other = tmp_path / "other"
    done = await _json(tmp_path, "restore", tmp_path / "one.backup", "--data-dir", other)
    assert done["streams"] == {"THINGS": 3}
    assert (other / "access" / "current").read_text() == "secret"
    assert (other / "access" / "local.key").stat().st_mode & 0o777 == 0o600
    assert os.listdir(other / "run") == ["lock"]
    assert await _count(other) == 3


async def _refused(file: Path, data_dir: Path) -> str:
    """Why a restore is refused."""
    with pytest.raises((BackupError, MeshStartError)) as refused:
        await api.restore(file, data_dir, progress=_ignore)
    return str(refused.value)


async def test_only_an_empty_directory_is_restored_to(tmp_path: Path) -> None:
    """One that has anything in it stays as it is; so does one that is in use."""
    saved = await api.save(await _data(tmp_path), tmp_path, clock=SystemClock(), progress=_ignore)
    full = tmp_path / "full"
    full.mkdir()
    (full / "mine").write_text("mine")
    assert await _refused(saved.path, full) == (
        f"The data directory {full} is not empty: move it away, or choose another with --data-dir."
    )
    assert os.listdir(full) == ["mine"]
    used = DataDir(tmp_path / "used")
    used.prepare()
    used.lock()
    assert await _refused(saved.path, used.path) == (
        f"A mesh already runs on {used.path} (pid {os.getpid()}): use it, end it with "
        "`agentmesh down`, or choose another with --data-dir."
    )
    used.unlock()


async def test_a_damaged_file_leaves_the_directory_empty(tmp_path: Path) -> None:
    """It is read to its end before anything is restored from it."""
    saved = await api.save(
        await _data(tmp_path), tmp_path / "a.backup", clock=SystemClock(), progress=_ignore
    )
    content = bytearray(saved.path.read_bytes())
    with zipfile.ZipFile(saved.path) as archive:
        at = archive.getinfo("streams/THINGS").header_offset + 100
    content[at] ^= 0xFF
    saved.path.write_bytes(content)
    why = (
        f"{saved.path} is damaged (streams/THINGS: Bad CRC-32 for file 'streams/THINGS'): "
        "take another backup, or another copy of it."
    )
    empty, missing = tmp_path / "empty", tmp_path / "missing"
    empty.mkdir()
    assert await _refused(saved.path, empty) == why
    assert os.listdir(empty) == []
    assert await _refused(saved.path, missing) == why
    assert not missing.exists()
    result = _run("backup", "verify", saved.path)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (1, f"error: {why}")


async def test_a_later_version_is_refused(tmp_path: Path) -> None:
    """What it wrote may mean something else there."""
    saved = await api.save(
        await _data(tmp_path), tmp_path / "a.backup", clock=SystemClock(), progress=_ignore
    )
    later = tmp_path / "later.backup"
    with zipfile.ZipFile(saved.path) as made, zipfile.ZipFile(later, "w") as changed:
        for name in made.namelist():
            content = made.read(name)
            if name == MANIFEST:
                values = json.loads(content)
                content = json.dumps({**values, "made_by": "9.0.0"}).encode()
            changed.writestr(name, content)
    assert await _refused(later, tmp_path / "new") == (
        f"{later} was made by a later version (Agentmesh 9.0.0, this is 0.1.0): "
        "restore it with that one."
    )
    assert not (tmp_path / "new").exists()


def test_where_nothing_is_there_is_nothing_to_save(tmp_path: Path) -> None:
    """A mistyped directory does not give an empty backup."""
    result = _run("backup", tmp_path / "a.backup", "--data-dir", tmp_path / "nowhere")
    assert (result.exit_code, result.stderr) == (
        1,
        f"error: There is no mesh's state in {tmp_path / 'nowhere'}: name its directory with "
        "--data-dir.\n",
    )
    assert os.listdir(tmp_path) == []


async def test_a_store_that_does_not_answer_leaves_no_file(tmp_path: Path) -> None:
    """Half of a mesh is no backup; who asked is told which half is missing."""
    data = DataDir(await _data(tmp_path))
    nats_port, redis_port = free_ports(2)
    state = MeshState(
        pid=os.getpid(),
        process_start_ticks=start_ticks(os.getpid()) or 0,
        tier=Tier.PROTOTYPE,
        version="0.1.0",
        started=datetime.now(UTC),
        data_dir=data.path,
        address="127.0.0.1:1",
        admin_address=None,
        config=None,
        processes=(
            ProcessRecord("nats", 1, "2", (nats_port,), None),
            ProcessRecord("redis", 1, "7", (redis_port,), None),
        ),
        notes=(),
        services=(),
    )
    write_state(state)
    out = tmp_path / "out"
    out.mkdir()
    with pytest.raises(BackupError, match=r"^Failed to save streams: no connection: "):
        await api.save(data.path, out, clock=SystemClock(), progress=_ignore)
    assert os.listdir(out) == []
    async with _servers(data, nats_port=nats_port):
        with pytest.raises(BackupError, match=r"^Failed to save Redis: "):
            await api.save(data.path, out, clock=SystemClock(), progress=_ignore)
    assert os.listdir(out) == []


async def test_a_backup_that_is_killed_leaves_nothing_that_looks_whole(tmp_path: Path) -> None:
    """And nothing that keeps the next one, or the mesh, from its work."""
    data = await _data(tmp_path)
    path = tmp_path / "a.backup"
    part = tmp_path / f"a.backup{PART}"
    child = _spawn("backup", path, "--data-dir", data)
    try:
        await eventually(part.exists, _CHILD_SECONDS)
    finally:
        child.kill()
        child.wait(_CHILD_SECONDS)
    assert not path.exists()
    result = _run("backup", "verify", part)
    assert (result.exit_code, result.stderr.splitlines()[-1]) == (
        1,
        f"error: {part} is not a whole backup: it is another file, or one that was cut off. "
        "Take another one.",
    )
    folder = DataDir(data)

    def free() -> bool:
        """What it had begun to start ends with it, and gives the lock back."""
        try:
            folder.lock()
        except AlreadyRunning:
            return False
        folder.unlock()
        return True

    await eventually(free, _CHILD_SECONDS)
    saved = await api.save(data, path, clock=SystemClock(), progress=_ignore)
    assert api.verify(saved.path, _ignore) == saved.manifest
    assert not part.exists()


async def test_a_restore_that_is_killed_is_begun_anew(tmp_path: Path) -> None:
    """No mesh starts on half of it, and the same command restores all of it."""
    saved = await api.save(
        await _data(tmp_path, things=200), tmp_path, clock=SystemClock(), progress=_ignore
    )
    new = DataDir(tmp_path / "new")
    child = _spawn("restore", saved.path, "--data-dir", new.path)
    try:
        await eventually((new.path / "nats").exists, _CHILD_SECONDS)
    finally:
        child.kill()
        child.wait(_CHILD_SECONDS)
    assert (new.path / RESTORING).exists()

    def free() -> bool:
        """Its servers end with it, and give the lock back."""
        try:
            new.lock()
        except RestoreUnfinished:
            return True
        except AlreadyRunning:
            return False
        raise AssertionError("a mesh would start on half of it")

    assert await eventually(free, _CHILD_SECONDS)
    with pytest.raises(RestoreUnfinished) as refused:
        new.lock()
    assert str(refused.value) == (
        f"A restore of {new.path} is not finished: wait for it, or where it broke off run "
        "`agentmesh restore` again."
    )
    await api.restore(saved.path, new.path, progress=_ignore)
    assert await _count(new.path) == 200
