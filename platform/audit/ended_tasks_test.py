"""What is kept of ended tasks and recorded steps is little, and is what was put there."""

from hypothesis import given
from hypothesis import strategies as st

from audit.ended_tasks import Ended, EndedTasks
from audit.finding import TaskKey
from audit.recorded import Recorded
from tasklog import lifecycle

_NAMES = st.text("abcä€", max_size=5)
_TASKS = st.builds(TaskKey, st.just("acme"), st.integers(0, 50).map(str))
_ENDS = st.builds(
    Ended,
    sequence=st.integers(1, (1 << 27) - 1),
    state=st.sampled_from(sorted(lifecycle.TERMINAL)),
    status_digest=st.integers(0, (1 << 32) - 1),
    expired=st.booleans(),
)


@given(st.lists(st.tuples(_TASKS, _ENDS), max_size=200))
def test_it_keeps_of_each_task_what_was_put_last(puts: list[tuple[TaskKey, Ended]]) -> None:
    """As a dictionary would, and nothing of tasks that were not put."""
    kept = EndedTasks()
    for task, ended in puts:
        kept.put(task, ended)
    expected = dict(puts)
    assert len(kept) == len(expected)
    for task in {TaskKey("acme", str(number)) for number in range(51)}:
        assert kept.get(task) == expected.get(task)


def test_it_grows_with_the_tasks() -> None:
    """None is forgotten when there are more than it had room for."""
    kept = EndedTasks()
    ended = Ended(5, max(lifecycle.TERMINAL), 7, expired=False)
    tasks = [TaskKey("acme", str(number)) for number in range(5000)]
    for task in tasks:
        kept.put(task, ended)
    assert all(kept.get(task) == ended for task in tasks)
    assert kept.get(TaskKey("other", "1")) is None


@given(st.sets(_NAMES), _NAMES)
def test_recorded_names_are_known_and_no_others(names: set[str], asked: str) -> None:
    """As in a set."""
    recorded = Recorded()
    for name in names:
        recorded.add(name)
    assert len(recorded) == len(names)
    assert all(name in recorded for name in names)
    assert (asked in recorded) is (asked in names)
