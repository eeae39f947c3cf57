"""What is written down of a running mesh."""

import json
import os
import subprocess
from dataclasses import replace
from datetime import UTC, datetime
from pathlib import Path

import pytest

from tier.data_dir import DataDir
from tier.options import Tier
from tier.state import MeshState, ProcessRecord, read_state, start_ticks, write_state


def _state(folder: Path, pid: int, ticks: int) -> MeshState:
    DataDir(folder).prepare()
    return MeshState(
        pid=pid,
        process_start_ticks=ticks,
        tier=Tier.PROTOTYPE,
        version="1.2.3",
        started=datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC),
        data_dir=folder,
        address="127.0.0.1:8080",
        admin_address=folder / "run/gateway-admin.sock",
        config=None,
        processes=(
            ProcessRecord(
                *("nats", 7, "2.15.1", (1, 2), folder / "logs/nats.log"),
                *(3, "killed by SIGKILL at 2026-01-02T03:04:05Z"),
            ),
        ),
        notes=("It is a test.",),
        services=("agentmesh.tool.v1.ToolService",),
        tls_address="127.0.0.1:8443",
        mtls=True,
    )


def _own_ticks() -> int:
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    return ticks


def test_what_is_written_is_read(tmp_path: Path) -> None:
    """The state of a living process comes back as it was written."""
    state = _state(tmp_path, os.getpid(), _own_ticks())
    write_state(state)
    assert read_state(tmp_path) == state


def test_a_mesh_of_an_earlier_version_is_read(tmp_path: Path) -> None:
    """It can be ended: only where its Envoy is asked is not known, for that was a port once."""
    state = _state(tmp_path, os.getpid(), _own_ticks())
    earlier = {**state.to_json(), "admin_address": "127.0.0.1:9901"}
    DataDir(tmp_path).state_file.write_text(json.dumps(earlier))
    found = read_state(tmp_path)
    assert found is not None
    assert found == replace(state, admin_address=None)
    assert MeshState.from_json(found.to_json()) == found


def test_another_process_with_the_same_pid_is_not_the_mesh(tmp_path: Path) -> None:
    """A pid that was given away again is no running mesh, and its state is removed."""
    write_state(_state(tmp_path, os.getpid(), _own_ticks() - 1))
    assert read_state(tmp_path) is None
    assert not DataDir(tmp_path).state_file.exists()


def test_the_state_of_a_dead_process_is_removed(tmp_path: Path) -> None:
    """A mesh that was killed leaves no state behind for long."""
    with subprocess.Popen(["true"]) as ended:
        ended.wait()
    write_state(_state(tmp_path, ended.pid, 1))
    assert read_state(tmp_path) is None
    assert not DataDir(tmp_path).state_file.exists()


@pytest.mark.parametrize(
    "text",
    ["", "{", "[]", "{}", json.dumps({"pid": "x"})],
    ids=["empty", "half", "list", "no keys", "no pid"],
)
def test_a_damaged_state_is_no_mesh(tmp_path: Path, text: str) -> None:
    """Whatever the file holds, reading it does not fail."""
    DataDir(tmp_path).prepare()
    DataDir(tmp_path).state_file.write_text(text)
    assert read_state(tmp_path) is None


def test_a_process_name_with_parentheses_is_read() -> None:
    """The start of a process is found whatever its name holds."""
    script = "exec -a 'a) b (c' sleep 60"
    with subprocess.Popen(["bash", "-c", script]) as process:
        try:
            assert (start_ticks(process.pid) or 0) >= _own_ticks()
        finally:
            process.kill()


def test_a_zombie_has_ended() -> None:
    """A process that nobody has waited for yet does not count as running."""
    process = subprocess.Popen(["true"])
    os.waitid(os.P_PID, process.pid, os.WEXITED | os.WNOWAIT)
    assert start_ticks(process.pid) is None
    process.wait()
