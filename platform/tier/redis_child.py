"""Redis with an append-only file, as a child."""

import asyncio
from pathlib import Path
from typing import Final

from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.ports import HOST

NAME: Final = "redis"
_TIMEOUT_SECONDS: Final = 1.0


def redis_child(binary: Path, data_dir: DataDir, port: int) -> ChildSpec:
    """Writes its configuration and says how to run it."""
    configuration = data_dir.run / "redis.conf"
    configuration.write_text(_configuration(data_dir.folder(NAME), port), "utf-8")

    async def probe() -> str | None:
        return await ready_version(port)

    return ChildSpec(
        name=NAME,
        title="Redis",
        command=(binary, configuration),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=(port,),
        probe=probe,
    )


def _configuration(folder: Path, port: int) -> str:
    return f"""\
bind {HOST}
port {port}
protected-mode yes
dir "{folder}"
appendonly yes
appendfsync everysec
# The append-only file is the only copy; a dump beside it would be a second truth.
save ""
# Counters and reservations must never be dropped to make room.
maxmemory-policy noeviction
# A backup takes what a replica would: nobody else comes for it.
repl-diskless-sync-delay 0
# Housekeeping wakes the processor; a mesh that rests needs little of it.
hz 5
dynamic-hz yes
"""


async def ready_version(port: int) -> str | None:
    """The version, once the data is loaded."""
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write(b"INFO server\r\nINFO persistence\r\nQUIT\r\n")
            answer = (await reader.read()).decode("utf-8", "replace")
        finally:
            writer.close()
    values = dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
    return values.get("redis_version") if values.get("loading") == "0" else None
