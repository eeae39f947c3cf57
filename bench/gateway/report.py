"""What rounds of several systems say about each other, and whether the promises were kept."""

import statistics
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass, replace
from typing import Any, Final

from bench.gateway.rounds import Figures, Load, Outcome
from bench.peers.comparison import Spread

# What is promised of ours.
MOST_P50_MS: Final = 2.0
MOST_P99_MS: Final = 8.0
MOST_FIRST_MS: Final = 3.0
LEAST_TIMES_THE_CALLS: Final = 8.0
MOST_OF_THE_CPU: Final = 0.1
# Whose figures the others are compared with, and whose they are.
DIRECT: Final = "upstream"
OURS: Final = "agentmesh"
STREAMED: Final = "agentmesh-streams"
PEER: Final = "litellm"


@dataclass(frozen=True, slots=True)
class Summary:
    """One system over its rounds: medians, and the least and the most."""

    name: str
    title: str
    setting: str
    rounds: int
    one_core: bool
    calls_per_second: Spread
    calls_per_core_second: Spread
    cpu_ms_per_call: Spread
    busy_cpu_ms_per_call: Spread
    p50_ms: Spread
    p99_ms: Spread
    alone_p50_ms: Spread
    first_p50_ms: Spread
    first_p99_ms: Spread
    # Medians, by process.
    cpu_ms: Mapping[str, float]
    busy_cpu_ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "title": self.title,
            "setting": self.setting,
            "rounds": self.rounds,
            "one_core": self.one_core,
            "calls_per_second": self.calls_per_second.to_json(),
            "calls_per_core_second": self.calls_per_core_second.to_json(),
            "cpu_ms_per_call": self.cpu_ms_per_call.to_json(),
            "busy_cpu_ms_per_call": self.busy_cpu_ms_per_call.to_json(),
            "cpu_ms_by_process": _rounded(self.cpu_ms),
            "busy_cpu_ms_by_process": _rounded(self.busy_cpu_ms),
            "p50_ms": self.p50_ms.to_json(),
            "p99_ms": self.p99_ms.to_json(),
            "alone_p50_ms": self.alone_p50_ms.to_json(),
            "first_token_p50_ms": self.first_p50_ms.to_json(),
            "first_token_p99_ms": self.first_p99_ms.to_json(),
        }


@dataclass(frozen=True, slots=True)
class Promise:
    """A figure that is promised, and what it is."""

    name: str
    # For people.
    text: str
    value: float
    bound: float
    # Whether it is to be the bound or more, instead of less.
    at_least: bool = False

    @property
    def kept(self) -> bool:
        """Whether it is within its bound."""
        return self.value >= self.bound if self.at_least else self.value <= self.bound

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "name": self.name,
            "value": round(self.value, 3),
            "bound": self.bound,
            "kept": self.kept,
        }


@dataclass(frozen=True, slots=True)
class Report:
    """All that was measured."""

    load: Load
    systems: Sequence[Summary]
    promises: Sequence[Promise]
    outcomes: Sequence[Outcome]

    @property
    def good(self) -> bool:
        """Whether every system was measured to the end."""
        return not any(each.failure for each in self.outcomes)

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "rate": self.load.rate,
            "seconds": self.load.seconds,
            "warm_up_seconds": self.load.warm_up_seconds,
            "in_flight": self.load.in_flight,
            "systems": [each.to_json() for each in self.systems],
            "promises": [each.to_json() for each in self.promises],
            "left_out": [
                {"name": each.name, "reason": each.failure, "rounds": len(each.figures)}
                for each in self.outcomes
                if each.failure
            ],
            "good": self.good,
        }


def report(load: Load, outcomes: Sequence[Outcome]) -> Report:
    """The medians of all rounds, and what they say of the promises."""
    systems = [_summary(each) for each in outcomes if each.figures]
    return Report(load, systems, promises(systems), outcomes)


def promises(systems: Sequence[Summary]) -> list[Promise]:
    """What can be said of the promises with the systems that were measured.

    What a system adds is its latency less the median of the upstream's: in the slowest of
    a hundred calls all that was slow counts as ours.
    """
    known = {each.name: each for each in systems}
    ours, streamed = known.get(OURS), known.get(STREAMED)
    direct, peer = known.get(DIRECT), known.get(PEER)
    found: list[Promise] = []
    if ours and direct:
        later_ms = ours.first_p50_ms.median - direct.first_p50_ms.median
        found += [
            *_added(ours, direct),
            Promise(
                "first_token_later_ms",
                "ms by which the first token is later, median",
                later_ms,
                MOST_FIRST_MS,
            ),
        ]
    if ours and peer:
        found += _cheaper(ours, peer)
    if streamed and direct:
        found += _on_streams(_added(streamed, direct))
    if streamed and peer:
        found += _on_streams(_cheaper(streamed, peer))
    return found


def _added(ours: Summary, direct: Summary) -> list[Promise]:
    upstream_ms = direct.p50_ms.median
    return [
        Promise(
            "overhead_p50_ms",
            "ms added to a call, median",
            ours.p50_ms.median - upstream_ms,
            MOST_P50_MS,
        ),
        Promise(
            "overhead_p99_ms",
            "ms added to the slowest of 100 calls",
            ours.p99_ms.median - upstream_ms,
            MOST_P99_MS,
        ),
    ]


def _cheaper(ours: Summary, peer: Summary) -> list[Promise]:
    # Where both do what they can. At the steady rate a peer that cannot keep up is at its limit
    # with a queue of seconds, and ours is not.
    return [
        Promise(
            "times_the_calls",
            f"times the calls of {peer.title} for a second of a core",
            ours.calls_per_core_second.median / peer.calls_per_core_second.median,
            LEAST_TIMES_THE_CALLS,
            at_least=True,
        ),
        Promise(
            "of_the_busy_cpu",
            f"of the CPU that {peer.title} takes for a call, both as busy as they can be",
            ours.busy_cpu_ms_per_call.median / peer.busy_cpu_ms_per_call.median,
            MOST_OF_THE_CPU,
        ),
    ]


def _on_streams(promises: Sequence[Promise]) -> list[Promise]:
    return [
        replace(each, name=f"streams_{each.name}", text=f"{each.text}, on streams")
        for each in promises
    ]


def _summary(outcome: Outcome) -> Summary:
    def spread(value: Callable[[Figures], float]) -> Spread:
        values = [value(each) for each in outcome.figures]
        return Spread(statistics.median(values), min(values), max(values))

    return Summary(
        name=outcome.name,
        title=outcome.title,
        setting=outcome.setting,
        rounds=len(outcome.figures),
        one_core=all(each.one_core for each in outcome.figures),
        calls_per_second=spread(lambda each: each.calls_per_second),
        calls_per_core_second=spread(lambda each: each.calls_per_core_second),
        cpu_ms_per_call=spread(lambda each: each.cpu_ms_per_call),
        busy_cpu_ms_per_call=spread(lambda each: each.busy_cpu_ms_per_call),
        p50_ms=spread(lambda each: each.p50_ms),
        p99_ms=spread(lambda each: each.p99_ms),
        alone_p50_ms=spread(lambda each: each.alone_p50_ms),
        first_p50_ms=spread(lambda each: each.first_p50_ms),
        first_p99_ms=spread(lambda each: each.first_p99_ms),
        cpu_ms=_medians([each.cpu_ms for each in outcome.figures]),
        busy_cpu_ms=_medians([each.busy_cpu_ms for each in outcome.figures]),
    )


def _medians(rounds: Sequence[Mapping[str, float]]) -> Mapping[str, float]:
    parts = {part: None for each in rounds for part in each}
    return {part: statistics.median(each.get(part, 0.0) for each in rounds) for part in parts}


def _rounded(values: Mapping[str, float]) -> dict[str, float]:
    return {name: round(value, 4) for name, value in values.items()}
