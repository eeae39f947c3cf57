"""Measures what it takes to ask whether a call may be made."""

import asyncio
import math
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from bench.governor.admissions import TENANT
from bench.governor.asking import Asking
from bench.governor.drive import Drive, drive
from bench.governor.hops import read_hops
from bench.governor.leased import leased
from bench.tasks.bench_mesh import MeshPlan, bench_mesh
from bench.tasks.latencies import Latencies
from bench.tasks.usage import Usage, usage
from tier.api import Event, Phase, RunningMesh, Tier

# What is promised: 99 of 100 admissions take no longer.
BOUND_ADMIT_MS: Final = 3.0
BOUND_LEASED_US: Final = 50.0
_PERCENTS: Final = (50, 90, 99, 99.9)
# Those that take part in an admission, beside the client.
_PARTS: Final = ("gateway", "governor", "redis-counters", "redis", "nats")
_CLIENT: Final = "client"
_LEASED: Final = 20_000
# By then logs have been written that are gathered for a moment.
_LOGS_SECONDS: Final = 2.0

# Told what is being done, in a line.
Tell = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and for how long."""

    # Calls a second.
    rate: float
    seconds: float
    warm_up_seconds: float
    seed: int
    # Whether NATS and Redis flush each write before they acknowledge; None for what staging does.
    sync_always: bool | None = None


@dataclass(frozen=True, slots=True)
class Asked:
    """What asking took, one way."""

    # Percentiles by name.
    admit_ms: Mapping[str, float]
    calls: int
    errors: Mapping[str, int]
    # Of an admission, and its settlement among others, by process.
    cpu_us_per_call: Mapping[str, float]
    # What lies within `admit_ms`, by where it was measured: percentiles, each by itself.
    hops_ms: Mapping[str, Mapping[str, float]] = field(
        default_factory=dict[str, Mapping[str, float]]
    )

    @property
    def kept(self) -> bool:
        """Whether it is within its bound."""
        return self.admit_ms["p99"] < BOUND_ADMIT_MS

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "calls": self.calls,
            "errors": dict(self.errors),
            "admit_ms": dict(self.admit_ms),
            "hops_ms": {hop: dict(each) for hop, each in self.hops_ms.items()},
            "cpu_us_per_call": dict(self.cpu_us_per_call),
        }


@dataclass(frozen=True, slots=True)
class Report:
    """What was measured."""

    load: Load
    # Each call by itself, and several together on streams as reasoning makes them.
    by_itself: Asked
    streamed: Asked
    # Percentiles by name.
    leased_us: Mapping[str, float]

    @property
    def good(self) -> bool:
        """Whether every call was allowed and settled."""
        return not self.by_itself.errors and not self.streamed.errors

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "rate": self.load.rate,
            "seconds": self.load.seconds,
            "by_itself": self.by_itself.to_json(),
            "streamed": self.streamed.to_json(),
            "leased_us": dict(self.leased_us),
            "bounds": {"admit_p99_ms": BOUND_ADMIT_MS, "leased_p99_us": BOUND_LEASED_US},
            "kept": {
                "by_itself": self.by_itself.kept,
                "streamed": self.streamed.kept,
                "leased": self.leased_us["p99"] < BOUND_LEASED_US,
            },
            "good": self.good,
        }


async def run(load: Load, tell: Tell) -> Report:
    """Runs the benchmark on a mesh of its own. Raises MeshStartError and ClientFailed."""
    tell("Measuring admissions under a lease")
    took = await leased(_LEASED)
    tell("Starting a staging mesh")

    def hear(event: Event) -> None:
        if event.phase in (Phase.DIED, Phase.FAILED):
            tell(event.text)

    plan = MeshPlan(tier=Tier.STAGING, executors=1, sync_always=load.sync_always, latency_ms=0)
    async with bench_mesh(plan, [TENANT], hear) as mesh:
        by_itself = await _ask(mesh, load, tell, streamed=False)
        streamed = await _ask(mesh, load, tell, streamed=True)
    return Report(
        load=load,
        by_itself=by_itself,
        streamed=streamed,
        leased_us={f"p{each:g}": took[math.ceil(len(took) * each / 100) - 1] for each in _PERCENTS},
    )


async def _ask(mesh: RunningMesh, load: Load, tell: Tell, *, streamed: bool) -> Asked:
    way = "on streams" if streamed else "one by one"
    tell(f"Asking {load.rate:g} times a second for {load.seconds:g} s, {way}")
    used: list[Usage] = []
    asking = Asking(
        address=mesh.address,
        rate=load.rate,
        seconds=load.seconds,
        warm_up_seconds=load.warm_up_seconds,
        # One for the warm-up and the next for what counts: no key is used twice.
        seed=load.seed + (2 if streamed else 0),
        streamed=streamed,
    )
    driven = await drive(asking, lambda client: used.append(_used(mesh, client)))
    latencies = Latencies.decode(driven.asked.latencies)
    return Asked(
        admit_ms=_percentiles(latencies),
        calls=latencies.count,
        errors=driven.asked.errors,
        cpu_us_per_call=_cpu(used, latencies.count),
        hops_ms={
            "begun late by the client": _percentiles(Latencies.decode(driven.asked.late)),
            # A proxy's log has a line for a stream, and none for what it carried.
            **({} if streamed else await _in_logs(mesh, driven)),
        },
    )


async def _in_logs(mesh: RunningMesh, driven: Drive) -> dict[str, dict[str, float]]:
    await asyncio.sleep(_LOGS_SECONDS)
    hops = read_hops(mesh.state.data_dir / "logs", driven.begun, driven.ended)
    return {
        "in the gateway and behind it": _percentiles(hops.gateway),
        "in the governor and behind it": _percentiles(hops.governor),
    }


def _used(mesh: RunningMesh, client: int) -> Usage:
    pids = {each.name: each.pid for each in mesh.state.processes if each.name in _PARTS}
    return usage({**pids, _CLIENT: client}, mesh.state.data_dir)


def _cpu(used: Sequence[Usage], calls: int) -> dict[str, float]:
    before, after = used
    return {
        name: (after.cpu_seconds[name] - seconds) / max(calls, 1) * 1e6
        for name, seconds in before.cpu_seconds.items()
    }


def _percentiles(latencies: Latencies) -> dict[str, float]:
    return {f"p{each:g}": latencies.percentile_ms(each) for each in _PERCENTS}
