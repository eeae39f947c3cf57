"""A flood is apart from what is measured, and counted with it."""

import dataclasses

import pytest

from bench.tasks.flood import FloodFailed, divide, flooding, joined
from bench.tasks.load import Load, Outcome, Second, Stream, Window

_QUIET = Stream("quiet", arrivals=(1.0,))
_FLOOD = Stream("flooder", arrivals=(1.0, 1.1), floods=True)


def _load(*streams: Stream) -> Load:
    return Load("127.0.0.1:1", "a", "run", streams, (0.0, 1.0), 1.0)


def test_streams_that_flood_are_a_load_of_their_own() -> None:
    """Beside others; alone they are measured themselves."""
    assert divide(_load(_QUIET, _FLOOD)) == (_load(_QUIET), _load(_FLOOD))
    assert divide(_load(_QUIET)) == (_load(_QUIET), None)
    assert divide(_load(_FLOOD)) == (_load(_FLOOD), None)


def test_both_are_counted_and_one_is_measured() -> None:
    """Sums of everything, and the latencies of the seconds of the one that does not flood."""
    quiet = Outcome(
        submitted=2,
        succeeded=1,
        errors={"late": 1},
        windows=(Window(10.0, 1, {"quiet": "q"}),),
        seconds=(Second(2, 1, 5.0, 9.0),),
    )
    flood = Outcome(
        submitted=100,
        succeeded=5,
        errors={"late": 2, "lost": 1},
        windows=(Window(10.0, 5, {"flooder": "f"}),),
        seconds=(Second(4, 3, 50.0, 90.0), Second(1, 1, 60.0, 70.0)),
        refused=92,
    )
    assert joined(quiet, flood) == Outcome(
        submitted=102,
        succeeded=6,
        errors={"late": 3, "lost": 1},
        windows=(Window(10.0, 6, {"quiet": "q", "flooder": "f"}),),
        seconds=(Second(6, 4, 5.0, 9.0), Second(1, 1, 0.0, 0.0)),
        refused=92,
    )


def test_a_flood_that_ends_early_is_told() -> None:
    """A benchmark without its flood is none."""
    with (
        flooding(_load(_FLOOD), "bench.tasks.load", 0.0) as flooded,
        pytest.raises(FloodFailed, match=r"ended early \(exit code 0\)"),
    ):
        flooded.result(timeout=60)


def test_a_flood_that_says_why_it_fails_is_told_so() -> None:
    """In its own words."""
    load = dataclasses.replace(_load(_FLOOD), connect_seconds=0.2)
    with (
        flooding(load, "bench.tasks.client", 0.0) as flooded,
        pytest.raises(FloodFailed, match=r"^The client did not reach the gateway at 127.0.0.1:1 "),
    ):
        flooded.result(timeout=60)
