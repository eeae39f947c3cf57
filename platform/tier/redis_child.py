"""Redis with an append-only file, as a child; or two, of which one may lose what it has."""

import asyncio
import shutil
from collections.abc import Sequence
from pathlib import Path
from typing import Final

from meshkit.time_limit import within
from tier import ports
from tier.child import ChildSpec
from tier.data_dir import DataDir
from tier.failures import StartFailed
from tier.options import MeshOptions
from tier.ports import HOST

NAME: Final = "redis"
# Beside one that flushes every write: what is there is built again, or soon out of date.
COUNTERS: Final = "redis-counters"
_TITLES: Final = {NAME: "Redis", COUNTERS: "Redis of the counters"}
# Another one after each start of the machine; empty where the system does not tell.
_BOOT: Final = Path("/proc/sys/kernel/random/boot_id")
_TIMEOUT_SECONDS: Final = 1.0


def redis_children(binary: Path, data_dir: DataDir, options: MeshOptions) -> Sequence[ChildSpec]:
    """Those of a mesh; where counters are apart, theirs comes last."""
    port, counters_port = ports.free_ports(2)
    first = redis_child(binary, data_dir, port, flushes=options.flushes)
    if not options.counters_apart:
        return [first]
    return [first, counters_child(binary, data_dir, counters_port)]


def redis_child(
    binary: Path, data_dir: DataDir, port: int, *, flushes: bool = False, name: str = NAME
) -> ChildSpec:
    """Writes its configuration and says how to run it.

    `flushes`: each write is flushed to disk before it is acknowledged; else when the system does.
    """
    configuration = data_dir.run / f"{name}.conf"
    content = _configuration(data_dir.folder(name), port, flushes=flushes)
    configuration.write_text(content, "utf-8")
    title = _TITLES[name]

    async def probe() -> str | None:
        version = await ready_version(port)
        if version and flushes and not await flushes_every_write(port):
            raise StartFailed(title, "it does not flush every write to disk", None)
        return version

    return ChildSpec(
        name=name,
        title=title,
        command=(binary, configuration),
        working_dir=data_dir.run,
        log=data_dir.rotate(name),
        ports=(port,),
        probe=probe,
    )


def counters_child(binary: Path, data_dir: DataDir, port: int) -> ChildSpec:
    """The one of the counters: what it has outlives the process, and not the run of the machine.

    What a power cut leaves of its file misses the end, and counters of which only a part is
    missing look whole. So all of it goes: what is not there is opened from the ledger.
    """
    _forget_before_boot(data_dir.folder(COUNTERS))
    return redis_child(binary, data_dir, port, name=COUNTERS)


def _forget_before_boot(folder: Path) -> None:
    """Removes the data unless it is of this run of the machine."""
    boot = _BOOT.read_text("ascii") if _BOOT.exists() else ""
    seen, data = folder / "boot", folder / "appendonlydir"
    if boot and seen.exists() and seen.read_text("ascii", "replace") == boot:
        return
    if data.exists():
        shutil.rmtree(data)
    seen.write_text(boot, "ascii")


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
    with within(_TIMEOUT_SECONDS):
        reader, writer = await asyncio.open_connection(HOST, port)
        try:
            writer.write("".join(f"{each}\r\n" for each in (*commands, "QUIT")).encode())
            answer = (await reader.read()).decode("utf-8", "replace")
        finally:
            writer.close()
    return "\n".join(answer.splitlines())


def _values(answer: str) -> dict[str, str]:
    return dict(line.split(":", 1) for line in answer.splitlines() if ":" in line)
