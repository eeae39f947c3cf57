"""What cannot be measured is refused, with the option and what would do."""

import dataclasses
from pathlib import Path
from typing import Any

import pytest

from bench.tasks.options import BadPlan, Options, check


@pytest.mark.parametrize(
    "given",
    [
        {},
        {"in_flight": 1, "rounds": 1, "seconds": 1},
        {"rate": 5_000},
        {"rate": 5_000, "arrivals": "constant"},
        {"arrivals": "spike"},
        {"arrivals": "spike", "base": 10, "peak": 20, "peak_seconds": 1},
        {"trace": Path("t.jsonl"), "speed": 2},
        {"trace": Path("t.jsonl"), "arrivals": "trace"},
        {"flood": True, "rate": 100, "seconds": 5},
        {"backlog": 1_000},
        {"rate": 5_000, "lane": "batch"},
        {"tier": "prototype", "warm_up": 0},
    ],
)
def test_what_makes_sense_is_taken(given: dict[str, Any]) -> None:
    """Each kind of benchmark, with its own options."""
    check(dataclasses.replace(Options(), **given))


@pytest.mark.parametrize(
    ("given", "message"),
    [
        ({"seconds": 0}, "--seconds must be from 1 to 3,600, not 0"),
        ({"seconds": float("nan")}, "--seconds must be from 1 to 3,600, not nan"),
        ({"rounds": 0}, "--rounds must be from 1 to 100, not 0"),
        ({"warm_up": -1}, "--warm-up must be from 0 to 3,600, not -1"),
        ({"in_flight": 10_001}, "--in-flight must be from 1 to 10,000, not 10001"),
        ({"rate": 0}, "--rate must be from 1 to 1,000,000, not 0"),
        ({"rate": 20_000, "flood": True}, "--rate must be from 1 to 10,000, not 20000"),
        ({"speed": 0, "trace": Path("t")}, "--speed must be from 0.01 to 10,000, not 0"),
        ({"backlog": 1}, "--backlog must be from 1,000 to 10,000,000, not 1"),
        ({"latency_ms": -1}, "--latency-ms must be from 0 to 10,000, not -1"),
        ({"executors": 0}, "--executors must be from 1 to 16, not 0"),
        (
            {"rate": 1_000_000, "seconds": 3_600},
            "--rate makes more than 2,000,000 arrivals: take fewer or shorter rounds",
        ),
        (
            {"rate": 5, "trace": Path("t")},
            "--trace cannot go with --rate: the trace says when tasks arrive",
        ),
        (
            {"rate": 5, "in_flight": 5},
            "--in-flight cannot go with --rate: a closed loop has no arrivals",
        ),
        (
            {"in_flight": 5, "trace": Path("t")},
            "--in-flight cannot go with --trace: a closed loop has no arrivals",
        ),
        ({"speed": 2}, "--speed is that of a --trace"),
        ({"base": 2}, "--base is for --arrivals spike"),
        ({"peak_seconds": 2, "rate": 5}, "--peak-seconds is for --arrivals spike"),
        (
            {"arrivals": "spike", "rate": 5},
            "--rate does not go with --arrivals spike: it takes --base and --peak",
        ),
        (
            {"arrivals": "spike", "rounds": 5},
            "--rounds does not go with --arrivals spike: it takes --base and --peak",
        ),
        ({"arrivals": "poisson"}, "--arrivals poisson needs --rate, in tasks a minute"),
        ({"arrivals": "trace"}, "--arrivals trace needs --trace FILE"),
        (
            {"arrivals": "constant", "trace": Path("t")},
            "--trace cannot go with --arrivals constant",
        ),
        (
            {"flood": True, "in_flight": 5},
            "--flood cannot go with --in-flight: the flood has its own",
        ),
        (
            {"backlog": 5_000, "seconds": 5},
            "--backlog cannot go with --seconds: the tasks are queued beforehand",
        ),
        (
            {"backlog": 5_000, "flood": True},
            "--backlog cannot go with --flood: the tasks are queued beforehand",
        ),
        (
            {"backlog": 5_000, "lane": "batch"},
            "--backlog cannot go with --lane: its tasks are those of STANDARD",
        ),
        (
            {"tier": "prototype", "executors": 2},
            "--executors must be 1 with --tier prototype, which has one process",
        ),
    ],
)
def test_what_makes_no_sense_is_refused(given: dict[str, Any], message: str) -> None:
    """One sentence that names the option."""
    with pytest.raises(BadPlan) as caught:
        check(dataclasses.replace(Options(), **given))
    assert str(caught.value) == message
    assert message.startswith(caught.value.option)
