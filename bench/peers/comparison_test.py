"""What is made of several rounds of several systems."""

import os
from collections.abc import Sequence
from pathlib import Path
from typing import Any

import pytest

from bench.peers.agentmesh.peer import figures_of
from bench.peers.closed_loop import Load
from bench.peers.comparison import Spread, ratios, summary
from bench.peers.peer import Figures, PeerUnavailable
from bench.peers.rounds import Outcome, measure_in_turn

_LOAD = Load(in_flight=1, warm_up_seconds=0, seconds=1)


def _figures(tasks_per_minute: float, *, cpu: float = 2.0, p99: float = 8.0) -> Figures:
    return Figures(tasks_per_minute, p99 / 2, p99, {"server": cpu / 4, "client": cpu * 3 / 4})


class _Peer:
    """A system that writes down its rounds, and fails when it is told to."""

    def __init__(self, name: str, journal: list[str], *, fails: Sequence[str] = ()) -> None:
        self.name = name
        self.title = name.title()
        self.takes_turns = name == "b"
        # How the kernel let it have the processors, in each round.
        self.policies: list[int] = []
        self._journal = journal
        self._fails = fails
        self._rounds = 0

    def install(self) -> str:
        """Says how it is set."""
        self._journal.append(f"install {self.name}")
        if "install" in self._fails:
            raise PeerUnavailable("no registry reached")
        return f"{self.name} as it is"

    def run(self, load: Load, folder: Path) -> Figures:
        """A round: each gives ten tasks a minute more."""
        assert list(folder.iterdir()) == []
        (folder / "data").touch()
        self.policies.append(os.sched_getscheduler(0))
        self._rounds += 1
        self._journal.append(f"{self.name} {self._rounds}")
        if f"round {self._rounds}" in self._fails:
            raise PeerUnavailable("it fell over")
        return _figures(10.0 * self._rounds)


def test_systems_are_measured_in_turn() -> None:
    """Each once a round, and each round begins with another."""
    journal: list[str] = []
    peers = [_Peer(name, journal) for name in "abc"]
    outcomes = measure_in_turn(peers, _LOAD, 3, lambda text: None)
    assert journal[:3] == ["install a", "install b", "install c"]
    assert journal[3:] == ["a 1", "b 1", "c 1", "b 2", "c 2", "a 2", "c 3", "a 3", "b 3"]
    assert [each.name for each in outcomes] == ["a", "b", "c"]
    assert [each.tasks_per_minute for each in outcomes[0].figures] == [10, 20, 30]
    assert outcomes[0].setting == "a as it is"
    assert not any(each.failure for each in outcomes)


def test_only_who_gains_by_it_takes_turns_at_the_processors() -> None:
    """Also where it comes first in a round."""
    os.sched_setscheduler(0, os.SCHED_OTHER, os.sched_param(0))
    peers = [_Peer(name, []) for name in "ab"]
    measure_in_turn(peers, _LOAD, 2, lambda text: None)
    assert [each.policies for each in peers] == [[os.SCHED_OTHER] * 2, [os.SCHED_BATCH] * 2]


def test_a_system_that_cannot_be_installed_is_left_out() -> None:
    """The others are measured all the same, and somebody is told."""
    journal: list[str] = []
    told: list[str] = []
    peers = [_Peer("a", journal, fails=["install"]), _Peer("b", journal)]
    missing, other = measure_in_turn(peers, _LOAD, 2, told.append)
    assert (missing.failure, missing.figures) == ("no registry reached", [])
    assert len(other.figures) == 2
    assert "a 1" not in journal
    assert told[0] == "A: no registry reached"


def test_a_system_that_fails_is_measured_no_further() -> None:
    """What was measured before stays."""
    journal: list[str] = []
    peers = [_Peer("a", journal, fails=["round 2"]), _Peer("b", journal)]
    failing, other = measure_in_turn(peers, _LOAD, 4, lambda text: None)
    assert (failing.failure, len(failing.figures)) == ("it fell over", 1)
    assert len(other.figures) == 4
    assert "a 3" not in journal


def test_rounds_become_medians_and_ranges() -> None:
    """Of every figure by itself; parts of the system, too."""
    made = summary(
        Outcome(
            "a",
            "A",
            "as it is",
            [_figures(100, cpu=8, p99=30), _figures(300, cpu=4, p99=20), _figures(200, p99=10)],
        )
    )
    assert made.tasks_per_minute == Spread(200, 100, 300)
    assert made.cpu_ms_per_task == Spread(4, 2, 8)
    assert made.p99_ms == Spread(20, 10, 30)
    assert made.p50_ms == Spread(10, 5, 15)
    assert made.cpu_ms == {"server": 1, "client": 3}
    assert made.rounds == 3


def test_ratios_are_ours_divided_by_theirs() -> None:
    """More tasks are better above 1, processor time and latency below."""
    ours = summary(Outcome("ours", "Ours", "", [_figures(900, cpu=1, p99=5)]))
    theirs = summary(Outcome("theirs", "Theirs", "", [_figures(300, cpu=4, p99=20)]))
    (ratio,) = ratios([ours], [theirs])
    assert ratio.to_json() == {
        "name": "ours",
        "peer": "theirs",
        "tasks_per_minute": 3.0,
        "cpu_ms_per_task": 0.25,
        "p99_ms": 0.25,
    }


_REPORT: dict[str, Any] = {
    "good": True,
    "rounds": [
        {"counted": False, "tasks_per_minute": 1.0},
        {
            "counted": True,
            "tasks_per_minute": 20_000.0,
            "p50_ms": 150.0,
            "p99_ms": 400.0,
            "cpu_ms_by_process": {"executor-1": 1.5, "client": 0.5},
        },
    ],
    "errors": {},
    "deaths": [],
    "lost": 0,
    "doubled": 0,
    "unproven": 0,
    "audit": {"findings": []},
}


def test_our_own_figures_are_those_of_our_own_benchmark() -> None:
    """Of the round that counts."""
    figures = figures_of(_REPORT)
    assert figures == Figures(20_000.0, 150.0, 400.0, {"executor-1": 1.5, "client": 0.5})
    assert figures.cpu_ms_per_task == 2.0


def test_a_round_of_ours_that_went_wrong_does_not_count() -> None:
    """However quick it was."""
    with pytest.raises(PeerUnavailable) as caught:
        figures_of({**_REPORT, "good": False, "lost": 3})
    assert str(caught.value) == "The round did not go well: {'lost': 3}"
