"""Looks again at parents and children whose logs did not agree at first sight."""

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from audit.entry import Entry
from audit.examination import TaskLogs
from audit.family import Refused, UnknownEnd, UnknownParent, key_of
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.histories import Histories
from audit.second_look import side_by_side
from audit.track import Track
from meshkit.clock import Clock
from tasklog import lifecycle

# A cancel reaches child tasks within this.
_CANCEL_REACHES: Final = timedelta(minutes=1)


class FamilyExamination:
    """Parents that never were, results that children never had, children that outlive a cancel."""

    def __init__(self, logs: TaskLogs, clock: Clock) -> None:
        self._logs: Final = logs
        self._clock: Final = clock

    @property
    def kinds(self) -> frozenset[str]:
        """None."""
        return frozenset()

    def see(self, entry: Entry, before: Track | None) -> None:
        """Wants to see none."""

    async def catch_up(self) -> list[Finding]:
        """Has nothing to catch up with."""
        return []

    async def finish(self, histories: Histories) -> list[Finding]:
        """Reads the relatives' logs as they stand now."""
        doubts = histories.family.doubts
        parents = [each for each in doubts if isinstance(each, UnknownParent)]
        ends = [each for each in doubts if isinstance(each, UnknownEnd)]
        refused = [each for each in doubts if isinstance(each, Refused)]
        found: list[Finding] = []
        for child, log in await side_by_side(parents, lambda each: self._logs.of_task(each.parent)):
            found += _judge_parent(child, log)
        for end, log in await side_by_side(ends, lambda each: self._logs.of_task(each.child)):
            found += _judge_end(end, log)
        for child, log in await side_by_side(refused, lambda each: self._logs.of_task(each.child)):
            found += _judge_refusal(child, log)
        return found + await self._outlived(histories)

    async def _outlived(self, histories: Histories) -> list[Finding]:
        """Open children of cancelled parents."""
        found: list[Finding] = []
        children = list(_of_cancelled(histories))
        for (child, parent), log in await side_by_side(
            children, lambda each: self._logs.of_task(each[0])
        ):
            if not log or log[-1].event.status.state in lifecycle.TERMINAL:
                continue
            end = await self._logs.of_task(parent)
            cancelled = end[-1].event.status.end_time.ToDatetime(tzinfo=UTC) if end else None
            if cancelled is None or self._clock.now() - cancelled < _CANCEL_REACHES:
                continue
            if any(entry.kind == "redriven" and _time(entry) > cancelled for entry in log):
                continue  # somebody wants it all the same
            found.append(
                finding(
                    Invariant.CHILDREN,
                    child,
                    f"The task is open, although its parent {parent.task_id} was cancelled.",
                    end[-1].stream_sequence,
                    log[-1].stream_sequence,
                )
            )
        return found

    def counts(self) -> Mapping[str, int]:
        """Nothing of its own."""
        return {}

    def remarks(self) -> Sequence[str]:
        """None."""
        return ()


def _of_cancelled(histories: Histories) -> Iterable[tuple[TaskKey, TaskKey]]:
    for child, track in histories.open.items():
        if track.parent_task and track.state not in lifecycle.TERMINAL:
            parent = key_of(track.parent_task)
            ended = histories.ended.get(parent)
            if ended is not None and ended.state == task_pb2.TASK_STATE_CANCELLED:
                yield child, parent


def _judge_parent(doubt: UnknownParent, log: Sequence[Entry]) -> list[Finding]:
    name = doubt.parent.task_id or "whose name is none"
    if not log:
        why = f"its parent {name} does not exist"
    elif log[0].kind == "submitted" and log[0].stream_sequence > doubt.stream_sequence:
        why = f"its parent {name} was submitted after it"
    else:
        return []  # it had ended in between, or its content was removed since
    return [finding(Invariant.CHILDREN, doubt.child, f"Event 1: {why}.", doubt.stream_sequence)]


def _time(entry: Entry) -> datetime:
    return entry.event.time.ToDatetime(tzinfo=UTC)


def _judge_refusal(doubt: Refused, log: Sequence[Entry]) -> list[Finding]:
    if not log:
        return []
    why = f"It read that its child {doubt.child.task_id} was never accepted, and it was."
    return [
        finding(
            Invariant.CHILDREN,
            doubt.parent,
            why,
            doubt.stream_sequence,
            *(entry.stream_sequence for entry in log[-1:]),
        )
    ]


def _judge_end(doubt: UnknownEnd, log: Sequence[Entry]) -> list[Finding]:
    for entry in log:
        status = entry.event.status
        usage = status.usage.SerializeToString(deterministic=True)
        if status.state == doubt.state and usage == doubt.usage:
            return []
    return [
        finding(
            Invariant.CHILDREN,
            doubt.parent,
            f"It read that its child {doubt.child.task_id} was"
            f" {lifecycle.state_name(doubt.state)} with a usage that the child never had.",
            doubt.stream_sequence,
            *(entry.stream_sequence for entry in log[-1:]),
        )
    ]
