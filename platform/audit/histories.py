"""Every task's log at once, event by event in the stream's order."""

import zlib
from collections import Counter
from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus
from audit import content, family, fencing, order, placement, repeats, replay, tenants
from audit import terminal_state as ends
from audit.ended_tasks import Ended, EndedTasks
from audit.entry import Entry
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.track import Track
from tasklog import lifecycle
from tasklog.subjects import RUNNABLE_KINDS

_DEAD: Final = task_pb2.TASK_STATE_DEAD_LETTERED


class Histories:
    """Checks what can be seen in the logs alone. Feed it entries; read `open` at the end."""

    def __init__(self) -> None:
        self.open: Final[dict[TaskKey, Track]] = {}
        self.ended: Final = EndedTasks()
        self.family: Final = family.Family(self.open)
        self._ended_states: Final = Counter[task_pb2.TaskState]()

    def states(self) -> Counter[task_pb2.TaskState]:
        """How many tasks are in each state."""
        return self._ended_states + Counter(track.state for track in self.open.values())

    def see(self, entry: Entry) -> list[Finding]:
        """What is wrong with the next entry, after all those before it."""
        foreign = tenants.foreign(entry)
        if foreign is not None:
            return [foreign]  # it says nothing about the task under whose name it stands
        before = self.open.get(entry.task) or self.ended.get(entry.task)
        broken = order.check(before, entry) or ends.check(before, entry)
        found = [broken] if broken is not None else []
        if isinstance(before, Ended):
            found += self._after_the_end(before, entry, broken)
        elif broken is not None and broken.invariant in (Invariant.FORK, Invariant.END):
            pass  # the log goes on from what stood there first
        else:
            whole = broken is None and (
                before is None or before.sequence + 1 == entry.event.sequence
            )
            found += self._next(before, entry, whole=whole)
        return found

    def _after_the_end(self, before: Ended, entry: Entry, broken: Finding | None) -> list[Finding]:
        status = entry.event.status
        expired = before.expired or entry.kind == "expired"
        self.ended.put(
            entry.task,
            before._replace(sequence=max(before.sequence, entry.event.sequence), expired=expired),
        )
        if broken is None and (
            _digest(status) != before.status_digest or entry.event.HasField("usage")
        ):
            return [
                finding(
                    Invariant.REPLAY,
                    entry.task,
                    f"Event {entry.event.sequence} ({entry.kind}) changes the status or the usage"
                    " of a task that had ended.",
                    entry.stream_sequence,
                )
            ]
        return []

    def _next(self, before: Track | None, entry: Entry, *, whole: bool) -> list[Finding]:
        """`whole`: the event is the one after `before`, so that everything must fit."""
        found: list[Finding] = []
        # What retention left begins with its last event: there is nothing to replay.
        if whole and not (before is None and entry.kind == "expired"):
            found += replay.check(None if before is None else _status(before.status), entry)
            if before is not None:
                found += fencing.check(before.starter, entry)
        found += tenants.check(entry)
        misplaced = placement.check(entry)
        found += misplaced
        found += content.check(entry)
        track = before or Track(0, 0, b"", task_pb2.TASK_STATE_UNSPECIFIED)
        if not whole:
            track.starter, track.start_sequence = "", 0
        found += repeats.check(track, entry)
        found += self.family.check(track, entry)
        self._advance(track, entry, is_new=before is None)
        if misplaced and entry.kind in RUNNABLE_KINDS:
            track.runnable_sequence = 0  # no queue hands it out: that is said
        return found

    def _advance(self, track: Track, entry: Entry, *, is_new: bool) -> None:
        event, status = entry.event, entry.event.status
        track.sequence, track.stream_sequence = event.sequence, entry.stream_sequence
        track.state = status.state
        match entry.kind:
            case "submitted":
                track.parent_task, track.depth = status.parent_task, event.submitted.task.depth
            case "started":
                track.starter, track.start_sequence = event.writer, event.sequence
            case "tool_intended":
                track.note_intent(event.tool_intended.idempotency_key)
            case "waiting":
                wait = event.waiting.wait
                track.timed_wait = wait.HasField("until") or wait.HasField("expire_time")
                track.awaited = tuple(wait.children.tasks)
            case _:
                pass
        if entry.kind in RUNNABLE_KINDS:
            track.runnable_sequence, track.queue = entry.stream_sequence, entry.token
        if status.state in lifecycle.TERMINAL and (
            status.state != _DEAD or status.discarded or entry.kind == "expired"
        ):
            ended = Ended(
                event.sequence, status.state, _digest(_complete(entry)), entry.kind == "expired"
            )
            self.ended.put(entry.task, ended)
            self._ended_states[status.state] += 1
            self.open.pop(entry.task, None)
            return
        track.status = _complete(entry).SerializeToString()
        if is_new:
            self.open[entry.task] = track


def _complete(entry: Entry) -> TaskStatus:
    """The status as later events repeat it: they know where the first one is stored."""
    status = entry.event.status
    if entry.event.sequence != 1:
        return status
    complete = TaskStatus()
    complete.CopyFrom(status)
    complete.submitted_stream_sequence = entry.stream_sequence
    return complete


def _status(encoded: bytes) -> TaskStatus:
    return TaskStatus.FromString(encoded)


def _digest(status: TaskStatus) -> int:
    """Of everything but the notes, to which the removal of the content adds one."""
    kept = TaskStatus()
    kept.CopyFrom(status)
    kept.ClearField("notes")
    return zlib.crc32(kept.SerializeToString(deterministic=True))
