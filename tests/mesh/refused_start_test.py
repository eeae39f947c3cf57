"""A mesh that cannot start says why, and leaves nothing behind."""

import asyncio
import errno
import os
import socket
from collections.abc import Mapping, Sequence
from dataclasses import replace
from pathlib import Path

import pytest

from meshkit.service import Service
from tests.mesh.small_mesh import ignore, stand_ins
from tier import binaries
from tier.embedded import Build, ResourcesOf
from tier.events import Event, Phase
from tier.failures import (
    AlreadyRunning,
    BadConfig,
    BadOptions,
    BinaryMissing,
    DataDirFull,
    DataDirNotWritable,
    MeshStartError,
    PortTaken,
    StartFailed,
)
from tier.mesh import start, start_composed
from tier.options import MeshOptions, Tier
from tier.parts import SERVICES
from tier.ports import HOST, free_ports
from tier.serving import who_serves_not
from tier.state import read_state

_PATIENCE_SECONDS = 60.0


async def _refused(options: MeshOptions, load: object = stand_ins) -> MeshStartError:
    with pytest.raises(MeshStartError) as caught:
        await start_composed(options, ignore, load=load)  # type: ignore[arg-type]
    assert "\n" not in str(caught.value)
    return caught.value


async def test_a_taken_port_is_told(tmp_path: Path) -> None:
    """Who has the port is named, with what to do; nothing is started."""
    (port,) = free_ports(1)
    with socket.socket() as other:
        other.bind((HOST, port))
        other.listen()
        error = await _refused(MeshOptions(data_dir=tmp_path, port=port))
    assert isinstance(error, PortTaken)
    assert str(error).startswith(f"Port {port} (gateway) is taken by ")
    assert str(error).endswith(f"(pid {os.getpid()}): end that, or choose another with --port.")
    assert read_state(tmp_path) is None


async def test_a_folder_that_is_none_is_told(tmp_path: Path) -> None:
    """A data directory that cannot be written to is refused before anything starts."""
    (tmp_path / "file").touch()
    error = await _refused(MeshOptions(data_dir=tmp_path / "file", port=0))
    assert isinstance(error, DataDirNotWritable)


@pytest.mark.parametrize(
    ("variable", "title"), [("NATS_SERVER", "NATS"), ("REDIS_SERVER", "Redis"), ("ENVOY", "Envoy")]
)
async def test_a_missing_binary_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, variable: str, title: str
) -> None:
    """The server that is missing is named, with where it was looked for."""
    monkeypatch.setenv(variable, "/nowhere/at/all")
    error = await _refused(MeshOptions(data_dir=tmp_path, port=0))
    assert isinstance(error, BinaryMissing)
    assert str(error) == (
        f"The {title} binary is missing ({variable} says /nowhere/at/all): start with ./agentmesh, "
        f"which brings it, or set {variable} to its path."
    )


async def test_a_wrong_setting_is_told_before_anything_is_made(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A setting that is none, in the file or the environment, is named; nothing was begun."""
    told: list[Event] = []
    config = tmp_path / "mesh.yaml"
    config.write_text("tool:\n  colour: red\n")
    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    with pytest.raises(BadConfig, match=r"mesh\.yaml: tool\.colour is no setting"):
        await start(replace(options, config=config), told.append)
    monkeypatch.setenv("AGENTMESH_TOOL__COLOUR", "red")
    with pytest.raises(BadConfig, match="environment: AGENTMESH_TOOL__COLOUR is no setting"):
        await start(options, told.append)
    assert told == []
    assert not options.data_dir.exists()


async def test_one_folder_holds_one_mesh(tmp_path: Path) -> None:
    """A second start on the same data directory is refused, and the first mesh goes on."""
    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    async with await start_composed(options, ignore, load=stand_ins) as mesh:
        error = await _refused(options)
        assert isinstance(error, AlreadyRunning)
        assert f"(pid {os.getpid()})" in str(error)
        assert await who_serves_not(mesh.address, SERVICES) == {}


async def test_services_that_cannot_be_made_leave_nothing_running(tmp_path: Path) -> None:
    """When the services fail, the servers that were started for them are ended."""
    told: list[Event] = []

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        raise BadConfig("agentmesh.yaml: tool.colour is no setting")

    options = MeshOptions(data_dir=tmp_path, port=0)
    with pytest.raises(BadConfig, match=r"tool\.colour is no setting"):
        await start_composed(options, told.append, load=load)
    steps = [(each.part, each.phase) for each in told]
    assert ("nats", Phase.STARTING) in steps
    for part in ("nats", "redis", "gateway", "mesh"):
        assert (part, Phase.STOPPED) in steps
    # The folder is free again.
    await (await start_composed(options, ignore, load=stand_ins)).stop()


async def test_a_disk_that_runs_full_meanwhile_is_told(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Whatever whoever ran out of room calls it."""

    def full(_descriptor: int, _offset: int, _length: int) -> None:
        raise OSError(errno.ENOSPC, os.strerror(errno.ENOSPC))

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        monkeypatch.setattr(os, "posix_fallocate", full)
        raise OSError("disk I/O error")

    error = await _refused(MeshOptions(data_dir=tmp_path, port=0), load)
    assert isinstance(error, DataDirFull)


async def test_a_server_that_ends_at_once_is_told_with_its_words(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A binary that does not run here fails the start with what it said."""
    broken = tmp_path / "redis-server"
    broken.write_text("#!/bin/sh\necho 'wrong kind of machine' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(broken))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0))
    assert isinstance(error, StartFailed)
    assert str(error) == (
        "Failed to start Redis: it ended (exit code 3) after saying: wrong kind of machine. "
        f"See {tmp_path / 'data/logs/redis.log'}."
    )


async def test_a_server_that_ends_while_the_services_start_is_told_at_once(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The start does not wait for services that may never come up without it."""
    broken = tmp_path / "envoy"
    broken.write_text("#!/bin/sh\necho 'wrong kind of machine' >&2\nexit 3\n")
    broken.chmod(0o755)
    monkeypatch.setenv("ENVOY", str(broken))

    def load(_config: Path | None, _environ: Mapping[str, str]) -> Build:
        async def build(_: ResourcesOf) -> Sequence[Service]:
            await asyncio.Event().wait()
            return []

        return build

    options = MeshOptions(data_dir=tmp_path / "data", port=0)
    with pytest.raises(
        StartFailed, match=r"^Failed to start Envoy: it ended \(exit code 3\) after"
    ):
        await asyncio.wait_for(start_composed(options, ignore, load=load), _PATIENCE_SECONDS)


async def test_staging_wants_every_write_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A NATS that does not flush each write is not good enough for staging."""
    careless = tmp_path / "nats-server"
    real = binaries.find(binaries.NATS, os.environ)
    careless.write_text(f'#!/bin/sh\nsed -i /sync_interval/d "$2"\nexec {real} "$@"\n')
    careless.chmod(0o755)
    monkeypatch.setenv("NATS_SERVER", str(careless))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0, tier=Tier.STAGING))
    assert str(error) == (
        "Failed to start NATS: it does not flush every write to disk; 2.10 or newer can."
    )


async def test_staging_wants_every_write_of_redis_flushed(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """What is known of calls that were begun survives a power cut, as the log does."""
    careless = tmp_path / "redis-server"
    real = binaries.find(binaries.REDIS, os.environ)
    careless.write_text(f'#!/bin/sh\nexec {real} "$@" --appendfsync everysec\n')
    careless.chmod(0o755)
    monkeypatch.setenv("REDIS_SERVER", str(careless))
    error = await _refused(MeshOptions(data_dir=tmp_path / "data", port=0, tier=Tier.STAGING))
    assert str(error) == "Failed to start Redis: it does not flush every write to disk."


@pytest.mark.parametrize(
    ("port", "executors", "text"),
    [
        (65300, 1, "The port 65300 is none: choose 1 to 65172, or 0 for a free one."),
        (0, 0, "0 executors run nothing: choose 1 or more."),
        (
            0,
            2,
            "The prototype runs one executor in its one process: "
            "choose --tier staging for more, or 1 executor.",
        ),
    ],
)
async def test_senseless_options_are_told(
    tmp_path: Path, port: int, executors: int, text: str
) -> None:
    """Options that cannot be followed are refused with what would do."""
    error = await _refused(MeshOptions(data_dir=tmp_path, port=port, executors=executors))
    assert isinstance(error, BadOptions)
    assert str(error) == text


@pytest.mark.parametrize(
    ("options", "text"),
    [
        (
            MeshOptions(listen="0.0.0.0"),
            "The prototype has neither TLS nor credentials and does not listen on 0.0.0.0: "
            "choose --tier staging, which has both, or leave --listen out.",
        ),
        (
            MeshOptions(tier=Tier.STAGING, no_auth=True, listen="::"),
            "Without credentials nothing listens on ::, beyond this machine: "
            "leave --no-auth out, or --listen.",
        ),
        (
            MeshOptions(tier=Tier.STAGING, listen="example.org"),
            "example.org is no address to listen on: "
            "choose one of this machine's, such as 192.0.2.7, or 0.0.0.0 for all.",
        ),
    ],
)
async def test_nothing_unprotected_listens_beyond_this_machine(
    tmp_path: Path, options: MeshOptions, text: str
) -> None:
    """It takes TLS and credentials to do so; the refusal says what to do."""
    error = await _refused(replace(options, data_dir=tmp_path, port=0))
    assert isinstance(error, BadOptions)
    assert str(error) == text
