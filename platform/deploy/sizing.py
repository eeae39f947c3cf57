"""How many pods, partitions and cores a load takes: the arithmetic of docs/scaling.md."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

# Requests, that is tasks, a minute. There is an overlay for each.
LEVELS: Final = (50, 5_000, 100_000)
# CPU milliseconds of a task, as measured: the higher of the page's two columns.
CPU_MS: Final[Mapping[str, float]] = {
    "executor": 0.82,
    "coordinator": 1.15,
    "reasoning": 0.54,
    "tool": 0.16,
    "governor": 0.32,
    # Sessions and documents are not in the reference task: as much as a tool is assumed.
    "memory": 0.16,
}
# A Python process uses one core, and 60 % of it is planned.
_PLANNED_SHARE: Final = 0.6
# Tasks that an executor of the built-in policy has in hand, and how long models take in all.
_WORKERS: Final = 176
_MODEL_SECONDS: Final = 5.0
_APPENDS: Final = 5
_APPENDS_A_PARTITION: Final = 2_500
# Room for uneven tenants, and because the number is for the life of the log.
_ROOM: Final = 4
_BYTES_AN_EVENT: Final = 600
_KEPT_SECONDS: Final = 7 * 86_400
_GIB: Final = 1 << 30
# The page plans fifteen cores of three servers for a million a minute.
_NATS_CORES: Final = 15 / 1_000_000


@dataclass(frozen=True, slots=True)
class Size:
    """Of a service: what there always is, and at most."""

    least: int
    most: int


@dataclass(frozen=True, slots=True)
class Sizes:
    """What a load takes."""

    services: Mapping[str, Size]
    # For the life of the log.
    partitions: int
    # Of each of the three servers.
    nats_cores: int
    nats_disk_gib: int
    postgres_cores: int


def sizes(a_minute: int) -> Sizes:
    """What `a_minute` tasks take. One more of everything than the load asks, for one that fails."""
    rate = a_minute / 60
    services = {name: _service(rate * ms / 1_000) for name, ms in CPU_MS.items()}
    waiting = math.ceil(rate * _MODEL_SECONDS / _WORKERS)
    if waiting > services["executor"].least:
        services["executor"] = Size(services["executor"].least, 2 * waiting)
    partitions = math.ceil(rate * _APPENDS / _APPENDS_A_PARTITION)
    disk = rate * _APPENDS * _BYTES_AN_EVENT * _KEPT_SECONDS / _GIB
    return Sizes(
        services=services,
        # One is enough, and with one there is nothing to be uneven.
        partitions=1 if partitions == 1 else _power_of_two(partitions * _ROOM),
        nats_cores=max(1, math.ceil(a_minute * _NATS_CORES / 3 / _PLANNED_SHARE)),
        nats_disk_gib=max(20, _rounded(disk * 1.5)),
        # 50 µs of PostgreSQL a task; indexes, vacuum and the ledger on top, as much again twice.
        postgres_cores=max(1, math.ceil(rate * 0.00005 * 3 / _PLANNED_SHARE)),
    )


def _service(cores: float) -> Size:
    needed = math.ceil(cores / _PLANNED_SHARE)
    return Size(needed + 1, max(3, 3 * needed))


def _power_of_two(count: int) -> int:
    return 1 << (count - 1).bit_length()


def _rounded(gib: float) -> int:
    """To two digits, upwards: nobody orders 1,187 GiB."""
    step = 10 ** max(0, math.floor(math.log10(max(gib, 1))) - 1)
    return math.ceil(gib / step) * step
