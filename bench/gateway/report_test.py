"""What is promised is held against the medians of the rounds."""

from dataclasses import replace

from bench.gateway.report import report
from bench.gateway.rounds import Figures, Load, Outcome

_LOAD = Load(rate=200, seconds=10, warm_up_seconds=2, in_flight=32, seed=1)
_QUICK = Figures(
    p50_ms=0.2,
    p99_ms=0.5,
    cpu_ms={},
    alone_p50_ms=0.1,
    first_p50_ms=0.3,
    first_p99_ms=0.6,
    calls_per_second=9000,
    busy_cpu_ms={},
    one_core=True,
)
_OURS = replace(
    _QUICK,
    p50_ms=1.7,
    p99_ms=6.2,
    first_p50_ms=2.3,
    calls_per_second=1200,
    cpu_ms={"gateway": 0.1, "reasoning": 0.5},
    busy_cpu_ms={"gateway": 0.25, "reasoning": 0.5},
)
# It had half of a core: what others took of it counts against nobody.
_PEER = replace(
    _QUICK, p50_ms=900, calls_per_second=80, cpu_ms={"proxy": 6.0}, busy_cpu_ms={"proxy": 6.0}
)


def _outcome(name: str, *figures: Figures, failure: str = "") -> Outcome:
    return Outcome(name, name.title(), "as it is", list(figures), failure)


def test_what_is_added_is_a_latency_less_what_the_upstream_takes_by_itself() -> None:
    """Its median, for the slowest calls too; a promise is kept at its bound."""
    found = report(
        _LOAD,
        [_outcome("upstream", _QUICK), _outcome("agentmesh", _OURS), _outcome("litellm", _PEER)],
    )
    assert [(each.name, round(each.value, 3), each.kept) for each in found.promises] == [
        ("overhead_p50_ms", 1.5, True),
        ("overhead_p99_ms", 6.0, True),
        ("first_token_later_ms", 2.0, True),
        ("times_the_calls", 8.0, True),
        ("of_the_busy_cpu", 0.125, False),
    ]
    assert found.good


def test_calls_on_streams_are_held_to_the_same() -> None:
    """Beside those that are made by themselves; the first token is the same call's."""
    streamed = replace(_OURS, p50_ms=2.7, cpu_ms={"reasoning": 0.3}, busy_cpu_ms={"reasoning": 0.5})
    found = report(
        _LOAD,
        [
            _outcome("upstream", _QUICK),
            _outcome("agentmesh-streams", streamed),
            _outcome("litellm", _PEER),
        ],
    )
    assert [(each.name, round(each.value, 3), each.kept) for each in found.promises] == [
        ("streams_overhead_p50_ms", 2.5, False),
        ("streams_overhead_p99_ms", 6.0, True),
        ("streams_times_the_calls", 12.0, True),
        ("streams_of_the_busy_cpu", 0.083, True),
    ]


def test_medians_count_and_not_the_best_round() -> None:
    """One round in three may be disturbed; two may not."""
    slow = replace(_OURS, p50_ms=5.0)
    found = report(_LOAD, [_outcome("upstream", _QUICK), _outcome("agentmesh", _OURS, slow, slow)])
    assert [(each.name, each.kept) for each in found.promises] == [
        ("overhead_p50_ms", False),
        ("overhead_p99_ms", True),
        ("first_token_later_ms", True),
    ]


def test_who_failed_is_left_out_with_the_reason() -> None:
    """What it was measured before that counts, and the report is not good."""
    found = report(
        _LOAD,
        [_outcome("agentmesh", _OURS), _outcome("litellm", failure="no registry reached")],
    )
    assert not found.good
    document = found.to_json()
    assert document["left_out"] == [
        {"name": "litellm", "reason": "no registry reached", "rounds": 0}
    ]
    assert document["promises"] == []
    (ours,) = document["systems"]
    assert ours["cpu_ms_per_call"] == {"median": 0.6, "min": 0.6, "max": 0.6}
    assert ours["busy_cpu_ms_per_call"]["median"] == 0.75
    assert ours["cpu_ms_by_process"] == {"gateway": 0.1, "reasoning": 0.5}
    assert ours["calls_per_core_second"]["median"] == round(1000 / 0.75, 3)
