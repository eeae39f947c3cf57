"""What a benchmark is to do, made from what the user asked for."""

import random
from dataclasses import dataclass, field, replace
from typing import Final

from bench.tasks.arrivals import Arrivals, Constant, Poisson, Replay, Spike
from bench.tasks.bench_mesh import MeshPlan
from bench.tasks.load import Client, Lane, Stream
from bench.tasks.options import FLOOD, BadPlan, Options, Shape, check
from bench.tasks.trace import BadTrace, read_trace
from tier.api import Tier

_IN_FLIGHT: Final = 64
_FLOOD_PER_MINUTE: Final = 300.0
# Long enough that a p99 of the measured tenant is not its one slowest task.
_FLOOD_SECONDS: Final = 60.0
TENANT: Final = "bench"
FLOODER: Final = "flooder"


@dataclass(frozen=True, slots=True)
class Plan:
    """A benchmark, ready to be run."""

    # What it is, in a few words.
    title: str
    mesh: MeshPlan
    client: Client
    streams: tuple[Stream, ...] = ()
    # The beginning of the first window, and the end of each, in seconds.
    marks: tuple[float, ...] = ()
    # What each window is called, and whether it counts for the medians.
    windows: tuple[str, ...] = ()
    counted: frozenset[str] = field(default_factory=frozenset[str])
    # When the load is over that the mesh is to recover from.
    spike_end: float | None = None
    # How many tasks to queue, in the benchmark of a backlog.
    backlog: int = 0
    # Requests that the tenant that floods may send in a second; no limit of its own where 0.
    flooder_per_second: float = 0.0
    # That tasks name.
    lane: Lane = "standard"

    @property
    def seconds(self) -> float:
        """How long the load lasts."""
        return self.marks[-1] if self.marks else 0.0


def make_plan(options: Options) -> Plan:
    """The plan for what was asked. Raises BadPlan."""
    check(options)
    mesh = MeshPlan(
        tier=Tier(options.tier),
        executors=options.executors,
        sync_always=None if options.sync is None else options.sync == "always",
        latency_ms=options.latency_ms,
        no_mtls=options.no_mtls,
    )
    return replace(_plan(options, mesh), lane=options.lane or "standard")


def _plan(options: Options, mesh: MeshPlan) -> Plan:
    if options.backlog is not None:
        return Plan(
            f"dispatch out of a backlog of {options.backlog:,} tasks",
            mesh,
            "batch",
            backlog=options.backlog,
        )
    if options.flood:
        return _flood(options, mesh)
    shape = _shape(options)
    if shape is None:
        in_flight = options.in_flight or _IN_FLIGHT
        marks = _marks(options)
        return Plan(
            f"closed loop, {in_flight} in flight",
            mesh,
            options.client,
            (Stream(TENANT, in_flight=in_flight),),
            marks,
            *_rounds(marks),
        )
    if shape == "spike":
        return _spike(options, mesh)
    marks = _marks(options)
    title, arrivals = _arrivals(options, shape, marks[-1])
    return Plan(
        title,
        mesh,
        options.client,
        (Stream(TENANT, arrivals=_times(arrivals, options.seed)),),
        marks,
        *_rounds(marks),
    )


def _spike(options: Options, mesh: MeshPlan) -> Plan:
    spike = Spike(
        base_per_minute=options.base or 50.0,
        peak_per_minute=options.peak or 5_000.0,
        base_seconds=options.base_seconds or 30.0,
        peak_seconds=options.peak_seconds or 20.0,
        after_seconds=options.after_seconds or 30.0,
    )
    if spike.peak_per_minute <= spike.base_per_minute:
        raise BadPlan("--peak", f"must be over --base ({spike.base_per_minute:g} a minute)")
    begin = options.warm_up
    times = tuple(begin + time for time in _times(spike, options.seed))
    # The warm-up runs at the base rate, so that nothing in it is new to the base.
    before = tuple(Poisson(spike.base_per_minute, begin).times(random.Random(options.seed)))
    return Plan(
        f"a spike from {spike.base_per_minute:g} to {spike.peak_per_minute:g} tasks a minute",
        mesh,
        options.client,
        (Stream(TENANT, arrivals=before + times),),
        (begin, begin + spike.base_seconds, begin + spike.peak_end, begin + spike.seconds),
        ("base", "peak", "after"),
        frozenset({"peak"}),
        spike_end=begin + spike.peak_end,
    )


def _flood(options: Options, mesh: MeshPlan) -> Plan:
    rate = options.rate or _FLOOD_PER_MINUTE
    seconds = options.seconds or _FLOOD_SECONDS
    onset = options.warm_up + seconds
    end = onset + seconds
    quiet = _times(Poisson(rate, end), options.seed)
    flood = tuple(
        onset + time for time in _times(Poisson(rate * FLOOD, end - onset), options.seed + 1)
    )
    return Plan(
        f"a tenant with {rate:g} tasks a minute, alone and beside one that may send as many and"
        f" sends {rate * FLOOD:g}",
        mesh,
        options.client,
        (Stream(TENANT, arrivals=quiet), Stream(FLOODER, arrivals=flood, floods=True)),
        # A flood counts from its first moment, in which the other tenant may suffer most.
        (options.warm_up, onset, end),
        ("alone", "beside"),
        frozenset({"beside"}),
        # A tier allows one a second at the least.
        flooder_per_second=max(1.0, rate / 60.0),
    )


def _shape(options: Options) -> Shape | None:
    """How tasks arrive; None in a closed loop."""
    if options.arrivals:
        return options.arrivals
    if options.trace:
        return "trace"
    return "poisson" if options.rate else None


def _arrivals(options: Options, shape: Shape, seconds: float) -> tuple[str, Arrivals]:
    if options.trace is not None:
        speed = options.speed or 1.0
        try:
            trace = read_trace(options.trace)
        except BadTrace as error:
            raise BadPlan("--trace", str(error)) from None
        lasts = trace.times[-1] / speed
        if lasts < seconds:
            raise BadPlan(
                "--trace",
                f"lasts {lasts:.0f} s at this speed, the warm-up and the rounds {seconds:.0f} s:"
                " take fewer or shorter rounds, or a lower --speed",
            )
        title = f"replay of {options.trace.name}" + (
            f" at {speed:g} times its speed" if speed != 1 else ""
        )
        return title, Replay(tuple(time / speed for time in trace.times), seconds)
    rate = options.rate or 0.0
    kind = Constant if shape == "constant" else Poisson
    return f"{shape} arrivals, {rate:g} tasks a minute", kind(rate, seconds)


def _times(arrivals: Arrivals, seed: int) -> tuple[float, ...]:
    return tuple(arrivals.times(random.Random(seed)))


def _marks(options: Options) -> tuple[float, ...]:
    seconds = options.seconds or 10.0
    return tuple(options.warm_up + seconds * number for number in range((options.rounds or 3) + 1))


def _rounds(marks: tuple[float, ...]) -> tuple[tuple[str, ...], frozenset[str]]:
    names = tuple(f"round {number}" for number in range(1, len(marks)))
    return names, frozenset(names)
