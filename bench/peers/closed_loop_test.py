"""What counts as a peer's figures: the time measured, and the tasks in it."""

import asyncio
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from bench.peers.closed_loop import Load, Window, load_of, percentile, run

_LOAD = Load(in_flight=2, warm_up_seconds=10, seconds=5)


class _Clock:
    """Time that stands still until it is set."""

    def __init__(self) -> None:
        self.now = 0.0

    def __call__(self) -> float:
        return self.now


class _Window:
    """A window whose clock the test sets."""

    def __init__(self) -> None:
        self.clock = _Clock()
        self.said: list[dict[str, object]] = []
        self.window = Window(_LOAD, say=self._say, clock=self.clock)

    def _say(self, event: str, **values: float) -> None:
        self.said.append({"event": event, **values})

    def task(self, begin: float, end: float) -> None:
        """A task that takes from one time to another."""
        self.clock.now = begin
        _, begun = self.window.begin()
        self.clock.now = end
        self.window.end(begun)


def test_the_warm_up_does_not_count() -> None:
    """The time measured begins with the first task that ends after the warm-up."""
    driven = _Window()
    driven.task(0, 9)
    assert driven.said == []
    driven.task(9, 11)
    assert driven.said == [{"event": "measuring"}]
    driven.task(11, 12)
    driven.task(12, 16)
    driven.window.report()
    assert driven.said[1:] == [
        {"event": "measured"},
        {"event": "result", "tasks": 2, "seconds": 5.0, "p50_ms": 1000.0, "p99_ms": 4000.0},
    ]


def test_what_ends_later_does_not_count() -> None:
    """Tasks that were in flight when the time was over change nothing."""
    driven = _Window()
    driven.task(0, 10)
    driven.task(10, 15)
    assert driven.window.over
    driven.task(15, 40)
    driven.window.report()
    assert driven.said[-1]["tasks"] == 1


def test_nothing_is_reported_of_a_time_that_is_not_over() -> None:
    """Figures of a part of it would be taken for those of the whole."""
    driven = _Window()
    driven.task(0, 11)
    with pytest.raises(RuntimeError, match=r"^The time measured is not over\.$"):
        driven.window.report()


@given(
    st.lists(st.floats(0, 1e6), min_size=1, max_size=300).map(sorted),
    st.floats(0.01, 1, exclude_min=False),
)
def test_a_percentile_is_a_value_that_enough_others_do_not_exceed(
    ordered: list[float], share: float
) -> None:
    """It was measured, and the next smaller value would be too small."""
    value = percentile(ordered, share)
    assert value in ordered
    assert sum(each <= value for each in ordered) >= share * len(ordered) - 1e-9
    assert sum(each < value for each in ordered) < share * len(ordered) + 1e-9


async def test_as_many_tasks_as_asked_for_are_in_flight(
    capsys: pytest.CaptureFixture[str],
) -> None:
    """A caller begins its next task when its last has ended; each has a number of its own."""
    running, most = 0, 0
    numbers: list[int] = []

    async def task(number: int) -> None:
        nonlocal running, most
        numbers.append(number)
        running += 1
        most = max(most, running)
        await asyncio.sleep(0.001)
        running -= 1

    await run(Load(in_flight=7, warm_up_seconds=0.02, seconds=0.05), task)
    events = [json.loads(line) for line in capsys.readouterr().out.splitlines()]
    assert [each["event"] for each in events] == ["measuring", "measured", "result"]
    assert 0 < events[-1]["tasks"] < len(numbers)
    assert most == 7
    assert running == 0
    assert sorted(numbers) == list(range(1, len(numbers) + 1))


async def test_a_task_that_fails_ends_the_load() -> None:
    """A system whose tasks fail has no figures."""

    async def task(number: int) -> None:
        raise ValueError(f"Task {number} went wrong.")

    with pytest.raises(ExceptionGroup):
        await run(_LOAD, task)


def test_a_driver_is_told_the_load_as_json() -> None:
    """Other options may come with it."""
    told = {"in_flight": 2, "warm_up_seconds": 10, "seconds": 5, "ingress": "somewhere"}
    assert load_of(told) == _LOAD
