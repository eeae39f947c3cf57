"""A plan says what is submitted when, and which part of it is measured."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bench.tasks.options import BadPlan, Options
from bench.tasks.plan import Plan, make_plan
from tier.api import Tier


def _plan(**given: Any) -> Plan:
    return make_plan(dataclasses.replace(Options(), **given))


def test_without_options_it_is_a_closed_loop() -> None:
    """64 in flight in a staging mesh, three rounds of ten seconds after five of warm-up."""
    plan = _plan()
    assert plan.title == "closed loop, 64 in flight"
    assert [(each.tenant, each.in_flight, each.arrivals) for each in plan.streams] == [
        ("bench", 64, ())
    ]
    assert plan.marks == (5.0, 15.0, 25.0, 35.0)
    assert plan.windows == ("round 1", "round 2", "round 3")
    assert plan.counted == set(plan.windows)
    assert (plan.mesh.tier, plan.mesh.executors) == (Tier.STAGING, 1)
    assert plan.mesh.sync_always is None


@pytest.mark.parametrize("given", [{}, {"rate": 5.0}, {"arrivals": "spike"}, {"flood": True}])
def test_tasks_name_the_lane_that_was_asked_for(given: dict[str, Any]) -> None:
    """STANDARD where none was, in every kind of load."""
    assert _plan(**given).lane == "standard"
    assert _plan(**given, lane="batch").lane == "batch"


@pytest.mark.parametrize(("sync", "always"), [("always", True), ("default", False)])
def test_flushing_is_as_asked(sync: str, always: bool) -> None:
    """Else it is the tier's."""
    assert _plan(sync=sync).mesh.sync_always is always


@pytest.mark.parametrize("no_mtls", [False, True])
def test_certificates_are_left_out_where_asked(no_mtls: bool) -> None:
    """The same hops in plain text show what they cost."""
    assert _plan(no_mtls=no_mtls).mesh.no_mtls is no_mtls


def test_a_rate_arrives_through_the_warm_up_and_all_rounds() -> None:
    """Poisson unless constant arrivals are asked for."""
    plan = _plan(rate=600, warm_up=1, seconds=2, rounds=2)
    assert plan.title == "poisson arrivals, 600 tasks a minute"
    (stream,) = plan.streams
    assert stream.in_flight == 0
    assert plan.marks == (1.0, 3.0, 5.0)
    assert 4.0 < stream.arrivals[-1] < 5.0
    constant = _plan(rate=600, warm_up=1, seconds=2, rounds=2, arrivals="constant")
    assert len(constant.streams[0].arrivals) == 50


def test_a_spike_has_a_window_for_each_of_its_parts() -> None:
    """The peak is what counts, and its end is what the mesh recovers from."""
    plan = _plan(arrivals="spike", base=60, peak=600, warm_up=3)
    assert plan.windows == ("base", "peak", "after")
    assert plan.counted == {"peak"}
    assert plan.marks == (3.0, 33.0, 53.0, 83.0)
    assert plan.spike_end == 53.0
    (stream,) = plan.streams
    assert list(stream.arrivals) == sorted(stream.arrivals)
    in_peak = [time for time in stream.arrivals if 33 <= time < 53]
    assert abs(len(in_peak) - 200) < 90


def test_a_spike_goes_up() -> None:
    """A peak at or below the base is none."""
    with pytest.raises(BadPlan) as caught:
        _plan(arrivals="spike", base=60, peak=60)
    assert str(caught.value) == "--peak must be over --base (60 a minute)"


def test_a_flood_is_a_hundred_times_what_the_other_tenant_submits() -> None:
    """The quiet tenant comes first and goes on; the flood counts from its first moment."""
    plan = _plan(flood=True, rate=60, seconds=10, warm_up=2)
    assert plan.windows == ("alone", "beside")
    assert plan.marks == (2.0, 12.0, 22.0)
    quiet, flood = plan.streams
    assert (quiet.tenant, flood.tenant) == ("bench", "flooder")
    assert quiet.arrivals[0] < 12.0 < quiet.arrivals[-1]
    assert flood.arrivals[0] >= 12.0
    assert abs(len(flood.arrivals) - 1_000) < 6 * 1_000**0.5
    # What its tier refuses of that is no error; whatever else fails is.
    assert (quiet.floods, flood.floods, plan.flooder_per_second) == (False, True, 1.0)


def test_the_flooder_may_send_as_much_as_the_other_tenant_does() -> None:
    """In a tier of its own."""
    assert _plan(flood=True).flooder_per_second == 5.0
    assert _plan().flooder_per_second == 0.0


def test_a_flood_lasts_long_enough_for_a_p99() -> None:
    """Some 300 tasks of the measured tenant, alone and beside the flood."""
    plan = _plan(flood=True)
    assert plan.marks == (5.0, 65.0, 125.0)
    assert abs(len(plan.streams[0].arrivals) - 625) < 6 * 625**0.5


def test_a_backlog_is_queued_beforehand() -> None:
    """Nothing is submitted while it is dispatched."""
    plan = _plan(backlog=5_000)
    assert (plan.backlog, plan.streams, plan.windows) == (5_000, (), ())


def _trace(folder: Path, seconds: int) -> Path:
    path = folder / "t.jsonl"
    path.write_text(
        "".join(
            f'{{"TIMESTAMP": "2023-11-16 18:{each // 60:02}:{each % 60:02}",'
            ' "ContextTokens": 1, "GeneratedTokens": 1}\n'
            for each in range(seconds)
        ),
        "utf-8",
    )
    return path


def test_a_trace_is_replayed_at_a_speed(tmp_path: Path) -> None:
    """As far as the warm-up and the rounds go."""
    plan = _plan(trace=_trace(tmp_path, 61), speed=10, warm_up=1, seconds=2, rounds=2)
    assert plan.title == "replay of t.jsonl at 10 times its speed"
    arrivals = plan.streams[0].arrivals
    assert arrivals[:3] == (0.0, 0.1, 0.2)
    assert len(arrivals) == 50


def test_a_trace_that_ends_too_soon_is_refused(tmp_path: Path) -> None:
    """With what there is, what is needed, and what to do."""
    with pytest.raises(BadPlan) as caught:
        _plan(trace=_trace(tmp_path, 61), speed=10)
    assert str(caught.value) == (
        "--trace lasts 6 s at this speed, the warm-up and the rounds 35 s:"
        " take fewer or shorter rounds, or a lower --speed"
    )


def test_a_bad_trace_is_refused(tmp_path: Path) -> None:
    """With the file and the line."""
    path = tmp_path / "bad.jsonl"
    path.write_text("?\n", "utf-8")
    with pytest.raises(BadPlan) as caught:
        _plan(trace=path)
    assert str(caught.value) == f"--trace {path}: line 1: is not JSON"
