"""Which open tasks are lost, as far as the broker tells."""

import pytest

from audit import lost_tasks
from audit.finding import TaskKey
from audit.histories import Histories
from audit.lost_tasks import Suspect
from audit.queue_standing import ConsumerKey, Standing
from audit.written_log import written

_QUEUE = ConsumerKey("TASKS", "queue-standard-0-acme")


def _suspect(message: int) -> Suspect:
    return Suspect(TaskKey("acme", f"t{message}"), message, message, _QUEUE, waits=False)


def _lost(standing: Standing, *messages: int) -> list[tuple[int, ...]]:
    still = [_suspect(message) for message in messages]
    return [each.stream_sequences for each in lost_tasks.judge(still, {_QUEUE: standing})]


def test_what_was_acknowledged_is_lost() -> None:
    """Up to the point before which everything is acknowledged, that is certain."""
    standing = Standing(delivered=9, acknowledged=5, unacknowledged=3)
    assert _lost(standing, 4, 5, 6, 7, 8) == [(4,), (5,)]


def test_more_open_tasks_than_unacknowledged_messages_are_suspect() -> None:
    """The broker does not tell which are which, so all of them are named."""
    standing = Standing(delivered=9, acknowledged=5, unacknowledged=2)
    assert _lost(standing, 6, 7) == []
    assert _lost(standing, 6, 7, 8) == [(6,), (7,), (8,)]


@pytest.mark.parametrize("delivered", [0, 1])
def test_a_message_that_nobody_pulled_is_no_suspect(delivered: int) -> None:
    """It waits in its queue."""
    histories = Histories()
    assert [histories.see(entry) for entry in written("submitted")] == [[]]
    standing = Standing(delivered=delivered, acknowledged=0, unacknowledged=delivered)
    found = list(lost_tasks.suspects(histories.open, {_QUEUE: standing}, lambda tenant: "TASKS"))
    assert [each.message_sequence for each in found] == [1] * delivered


@pytest.mark.parametrize(
    ("later", "still"),
    [
        ([], True),
        (["started"], True),
        (["started", "model_called"], True),
        (["started", "retried"], False),
        (["started", "waiting"], False),
        (["started", "completed"], False),
        (["cancelled"], False),
    ],
)
def test_what_happened_meanwhile_counts(later: list[str], still: bool) -> None:
    """A task that ended, waits, or stands in a queue again does not need its old message."""
    entries = written("submitted", *later)[1:]
    assert lost_tasks.still_open(_suspect(1), entries) is still
