"""Measures systems in turn, round by round, so that what else the machine does hits all alike."""

import asyncio
import os
import sys
import tempfile
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from bench.gateway.cores import on_one_core
from bench.gateway.loops import Taken, at_once, at_rate, streams
from bench.gateway.system import Running, System, SystemUnavailable
from bench.peers.child import child, with_parent
from bench.peers.processor_time import processor_seconds
from tier.ports import free_ports, is_free
from tier.python_child import python_environment
from tier.scheduling import take_turns
from tier.wakefulness import awake

# The upstream is called beside every system, and never a part of one.
_UPSTREAM_LOG: Final = "upstream.log"
# What a system loads once it serves is no part of what calls cost. It rests when a second goes by
# in which all of its processes together take no more than so many seconds of a core; one that
# never does is measured after so many.
_RESTING_CORES: Final = 0.1
_MOST_UNTIL_REST_SECONDS: Final = 30


@dataclass(frozen=True, slots=True)
class Load:
    """What is asked, and for how long."""

    # Calls a second.
    rate: float
    # Of calls at that rate, and of each of the other measurements.
    seconds: float
    # Load before that which does not count.
    warm_up_seconds: float
    # At a time, where it is measured how many there can be.
    in_flight: int
    # Of the random distances.
    seed: int


@dataclass(frozen=True, slots=True)
class Figures:
    """One round of one system. All times are in milliseconds."""

    # At the rate that was asked for.
    p50_ms: float
    p99_ms: float
    # Processor time of a call at that rate, by process.
    cpu_ms: Mapping[str, float]
    # One call at a time.
    alone_p50_ms: float
    # To the first piece of text of a stream.
    first_p50_ms: float
    first_p99_ms: float
    # Calls a second that the system answers on one core, and their processor time by process.
    calls_per_second: float
    busy_cpu_ms: Mapping[str, float]
    # Whether it had one core to itself; else it is what all cores do together.
    one_core: bool

    @property
    def cpu_ms_per_call(self) -> float:
        """Of all processes, at the rate that was asked for."""
        return sum(self.cpu_ms.values())

    @property
    def busy_cpu_ms_per_call(self) -> float:
        """Of all processes, with as many calls as the system answers on one core."""
        return sum(self.busy_cpu_ms.values())

    @property
    def calls_per_core_second(self) -> float:
        """As many as a second of one core is enough for, whoever else had a part of it.

        0 for what has no process of its own.
        """
        busy_ms = self.busy_cpu_ms_per_call
        return 1000 / busy_ms if busy_ms else 0.0


@dataclass(slots=True)
class Outcome:
    """What became of one system."""

    name: str
    title: str
    # How it was set; empty where it could not be installed.
    setting: str = ""
    figures: list[Figures] = field(default_factory=list[Figures])
    # Why it was measured no further; empty where all went well.
    failure: str = ""


async def measure_in_turn(
    systems: Sequence[System], load: Load, rounds: int, tell: Callable[[str], None]
) -> list[Outcome]:
    """Installs the systems, then measures each of them once a round.

    A round begins with another system each time. One that fails is left out from then on. All
    take turns at processors that are kept awake, as staging does.
    """
    take_turns()
    outcomes = {each.name: Outcome(each.name, each.title) for each in systems}
    for system in systems:
        outcome = outcomes[system.name]
        try:
            outcome.setting = system.install()
        except SystemUnavailable as error:
            outcome.failure = str(error)
            tell(f"{system.title}: {error}")
    for number in range(rounds):
        first = number % len(systems)
        for system in [*systems[first:], *systems[:first]]:
            outcome = outcomes[system.name]
            if outcome.failure:
                continue
            tell(f"Round {number + 1} of {rounds}: {system.title}")
            try:
                with awake():
                    figures = await _one_round(system, load)
            except SystemUnavailable as error:
                outcome.failure = str(error)
                tell(f"{system.title}: {error}")
                continue
            outcome.figures.append(figures)
            tell(
                f"{system.title}: {figures.calls_per_core_second:,.0f} calls a second of a core,"
                f" {figures.cpu_ms_per_call:.2f} ms of CPU a call, p50 {figures.p50_ms:.2f} ms,"
                f" p99 {figures.p99_ms:.2f} ms"
            )
    return list(outcomes.values())


async def _one_round(system: System, load: Load) -> Figures:
    with tempfile.TemporaryDirectory(prefix="gateway-", ignore_cleanup_errors=True) as name:
        folder = Path(name)
        (port,) = free_ports(1)
        with child(
            "The stub upstream",
            with_parent([sys.executable, "-P", "-m", "bench.gateway.upstream", str(port)]),
            log=folder / _UPSTREAM_LOG,
            environment={**os.environ, **python_environment()},
            ready=lambda: not is_free(port),
        ) as upstream:
            async with system.run(port, folder) as running:
                return await _measure(running, load, upstream)


async def _measure(running: Running, load: Load, upstream: int) -> Figures:
    calls, parts = running.calls, running.parts
    await _rest(parts)
    await _warm(running, load)
    # Who answered more meanwhile has more to write down afterwards, which no call pays for later.
    await _rest(parts)
    before = _used(parts)
    steady = _good(await at_rate(calls.whole, rate=load.rate, seconds=load.seconds, seed=load.seed))
    cpu = _each(before, _used(parts), steady)
    alone = _good(await at_once(calls.whole, in_flight=1, seconds=load.seconds / 2))
    first = _good(await streams(calls.stream, seconds=load.seconds / 2))
    with on_one_core(parts.values(), (upstream, os.getpid())) as one_core:
        await _warm(running, load)
        before = _used(parts)
        busy = _good(await at_once(calls.whole, in_flight=load.in_flight, seconds=load.seconds / 2))
        busy_cpu = _each(before, _used(parts), busy)
    return Figures(
        p50_ms=steady.latencies.percentile_ms(50),
        p99_ms=steady.latencies.percentile_ms(99),
        cpu_ms=cpu,
        alone_p50_ms=alone.latencies.percentile_ms(50),
        first_p50_ms=first.latencies.percentile_ms(50),
        first_p99_ms=first.latencies.percentile_ms(99),
        calls_per_second=busy.latencies.count / busy.seconds,
        busy_cpu_ms=busy_cpu,
        one_core=one_core,
    )


async def _rest(parts: Mapping[str, int]) -> None:
    used = sum(_used(parts).values())
    for _ in range(_MOST_UNTIL_REST_SECONDS):
        await asyncio.sleep(1)
        before, used = used, sum(_used(parts).values())
        if used - before <= _RESTING_CORES:
            return


async def _warm(running: Running, load: Load) -> None:
    """Connections are opened and caches filled, at the load that is to come."""
    _good(
        await at_once(running.calls.whole, in_flight=load.in_flight, seconds=load.warm_up_seconds)
    )


def _used(parts: Mapping[str, int]) -> Mapping[str, float]:
    return {part: processor_seconds(pid) for part, pid in parts.items()}


def _each(
    before: Mapping[str, float], after: Mapping[str, float], taken: Taken
) -> Mapping[str, float]:
    """Milliseconds of a call, by process."""
    return {part: (after[part] - before[part]) * 1e3 / taken.latencies.count for part in before}


def _good(taken: Taken) -> Taken:
    """What was taken, where every call went well. Raises SystemUnavailable otherwise."""
    if taken.errors:
        (text, count), *_ = taken.errors.most_common(1)
        raise SystemUnavailable(f"{count} of its calls failed, such as with {text}")
    if not taken.latencies.count:
        raise SystemUnavailable("It answered no call in time.")
    return taken
