"""What the logs of relatives say when they are looked at once more."""

from collections.abc import Sequence
from datetime import timedelta

import pytest

from agentmesh.coordinator.v1 import task_pb2
from audit.ended_tasks import Ended
from audit.entry import Entry
from audit.family_examination import FamilyExamination
from audit.finding import TaskKey
from audit.histories import Histories
from audit.track import Track
from audit.written_log import written
from meshtest.clock import FakeClock

CHILD, PARENT = TaskKey("acme", "child"), TaskKey("acme", "parent")


class Logs:
    """A parent that was cancelled, and its child."""

    def __init__(self, child: list[Entry]) -> None:
        self._logs = {CHILD: child, PARENT: written("submitted", "cancelled")}

    async def of_task(self, task: TaskKey, *, after: int = 0) -> list[Entry]:
        return self._logs[task]

    async def owners(self, task_id: str) -> Sequence[TaskKey]:
        raise AssertionError


def histories() -> Histories:
    """As the log was read: the child is open."""
    found = Histories()
    found.open[CHILD] = Track(
        4, 4, b"", task_pb2.TASK_STATE_QUEUED, parent_task="tenants/acme/tasks/parent"
    )
    found.ended.put(PARENT, Ended(2, task_pb2.TASK_STATE_CANCELLED, 0, expired=False))
    return found


@pytest.mark.parametrize(("hours", "outlived"), [(-1, 1), (1, 0)])
async def test_a_child_that_was_put_back_after_the_cancel_is_wanted(
    hours: int, outlived: int
) -> None:
    """One that had been put back before should have been stopped with the others."""
    child = written("submitted", "started", "dead_lettered", "redriven")
    stamp = child[-1].event.time
    stamp.FromDatetime(stamp.ToDatetime() + timedelta(hours=hours))
    clock = FakeClock()
    await clock.advance(7 * 86_400)
    found = await FamilyExamination(Logs(child), clock).finish(histories())
    assert len(found) == outlived
