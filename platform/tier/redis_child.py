"""Redis with an append-only file, as a child."""

import asyncio
from pathlib import Path
from typing import Final

from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.failures import StartFailed
from tier.ports import HOST

NAME: Final = "redis"
_TIMEOUT_SECONDS: Final = 1.0


def redis_child(binary: Path, data_dir: DataDir, port: int, *, flushes: bool = False) -> ChildSpec:
    """Writes its configuration and says how to run it.

    `flushes`: each write is flushed to disk before it is acknowledged; else when the system does.
    """
    configuration = data_dir.run / "redis.conf"
    content = _configuration(data_dir.folder(NAME), port, flushes=flushes)
    configuration.write_text(content, "utf-8")

    async def probe() -> str | None:
        version = await ready_version(port)
        if version and flushes and not await flushes_every_write(port):
            raise StartFailed("Redis", "it does not flush every write to disk", None)
        return version

    return ChildSpec(
        name=NAME,
        title="Redis",
        command=(binary, configuration),
        working_dir=data_dir.run,
        log=data_dir.rotate(NAME),
        ports=(port,),
        probe=probe,
    )


def _configuration(folder: Path, port: int, *, flushes: bool) -> str:
    return f"""\
bind {HOST}
port {port}
protected-mode yes
dir "{folder}"
appendonly yes
# What is written is safe from the death of the process in any case; where it is flushed each time,
# from a power cut, too: a call of a tool that may not be repeated is known from its record here.
# With `everysec` it is not: Redis holds back for up to two seconds what it has acknowledged, while
# the flush before is still under way.
appendfsync {"always" if flushes else "no"}
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
    values = _values(await _ask(port, "INFO server", "INFO persistence"))
    return values.get("redis_version") if values.get("loading") == "0" else None


async def flushes_every_write(port: int) -> bool:
    """Whether the server does so in fact."""
    answer = await _ask(port, "CONFIG GET appendfsync", "INFO persistence")
    return "\nalways\n" in answer and _values(answer).get("aof_enabled") == "1"


async def commands_so_far(port: int) -> int:
    """How many it has carried out since it was started."""
    return int(_values(await _ask(port, "INFO stats"))["total_commands_processed"])


async def _ask(port: int, *commands: str) -> str:
    """What it answers, in lines."""
    async with asyncio.timeout(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write("".join(f"{each}\r\n" for each in (*commands, "QUIT")).encode())
            answer = (await reader.read()).decode("utf-8", "replace")
        finally:
            writer.close()
    return "\n".join(answer.splitlines())


def _values(answer: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
