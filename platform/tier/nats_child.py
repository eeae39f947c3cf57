"""NATS with JetStream on disk, as a child."""

import asyncio
import json
import os
from pathlib import Path
from typing import Final

from meshkit.time_limit import within
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.failures import StartFailed
from tier.http_get import get
from tier.ports import HOST

NAME: Final = "nats"
_MAX_PAYLOAD_BYTES: Final = 8 * 1024 * 1024
_TIMEOUT_SECONDS: Final = 1.0
# More than any disk holds: the disk is the limit. By itself the server would take three quarters
# of what is free when it starts, whatever it has stored already, and for its whole life: one that
# starts on a full disk would refuse every message even after there is room again.
_MAX_STORE_BYTES: Final = 1 << 50
# What it says of a stream that it cannot write to, or could not read when it started.
_LASTING: Final = ("write error", "could not be recovered")


def nats_child(
    binary: Path, data_dir: DataDir, port: int, monitor_port: int, *, flushes: bool
) -> ChildSpec:
    """Writes its configuration and says how to run it.

    `flushes`: each write is flushed to disk before it is acknowledged.
    """
    configuration = data_dir.run / "nats.conf"
    configuration.write_text(
        _configuration(data_dir.folder(NAME), port, monitor_port, flushes=flushes), "utf-8"
    )

    async def probe() -> str | None:
        version = await _ready_version(port, monitor_port)
        if version and flushes and not await flushes_every_write(monitor_port):
            raise StartFailed(
                "NATS", "it does not flush every write to disk; 2.10 or newer can", None
            )
        return version

    return ChildSpec(
        name=NAME,
        title="NATS",
        command=(binary, "-c", configuration),
        working_dir=data_dir.run,
        environment={} if flushes else {"GOMAXPROCS": os.environ.get("GOMAXPROCS", _half())},
        log=data_dir.rotate(NAME),
        ports=(port, monitor_port),
        probe=probe,
        sick=lambda: _lasting_error(monitor_port),
    )


def _half() -> str:
    """Of the processors: the services have as much to do as the broker has.

    One that flushes may use all, since a thread that flushes blocks the processor it holds for as
    long as it takes the runtime to notice.
    """
    return str(max(len(os.sched_getaffinity(0)) // 2, 1))


def _configuration(store: Path, port: int, monitor_port: int, *, flushes: bool) -> str:
    sync = 'sync_interval: "always"' if flushes else ""
    return f"""\
host: {HOST}
port: {port}
http: "{HOST}:{monitor_port}"
max_payload: {_MAX_PAYLOAD_BYTES}
# The longest that clients may take to hang up before the server ends.
lame_duck_grace_period: "1s"
lame_duck_duration: "30s"
jetstream {{
  store_dir: {json.dumps(str(store))}
  max_file_store: {_MAX_STORE_BYTES}
  {sync}
}}
"""


async def flushes_every_write(monitor_port: int) -> bool:
    """Whether the server does so in fact: an old one may not know the setting."""
    _, body = await get(monitor_port, "/varz")
    return bool(json.loads(body)["jetstream"]["config"].get("sync_always"))


async def messages_so_far(monitor_port: int) -> int:
    """How many clients have sent it since it was started."""
    _, body = await get(monitor_port, "/varz")
    return int(json.loads(body)["in_msgs"])


async def _lasting_error(monitor_port: int) -> str:
    """What keeps the server from its streams, such as a disk that is full: it never tries again.

    Where clients were quicker than the first look, that is so before it was ever ready.
    """
    status, body = await get(monitor_port, "/healthz")
    error = "" if status == 200 else str(json.loads(body).get("error", ""))
    return error if any(each in error for each in _LASTING) else ""


async def _ready_version(port: int, monitor_port: int) -> str | None:
    """The version, once JetStream has recovered its streams."""
    status, _ = await get(monitor_port, "/healthz?js-enabled-only=false")
    if status != 200:
        return None
    with within(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            line = await reader.readline()
        finally:
            writer.close()
    if not line.startswith(b"INFO "):
        return None
    return str(json.loads(line[5:])["version"])
