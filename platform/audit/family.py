"""Parents and their child tasks agree, as far as their logs tell."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult
from audit import tenants
from audit.entry import Entry
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.track import UNKNOWN_DEPTH, ChildEnd, Track
from meshkit.errors import CorruptData, from_status
from tasklog import lifecycle
from tasklog.subjects import task_name

# How many tasks may stand above one.
MAX_DEPTH: Final = 5


@dataclass(frozen=True, slots=True)
class UnknownParent:
    """A child whose parent was not seen open before it: it may have ended, or expired."""

    child: TaskKey
    stream_sequence: int
    parent: TaskKey


@dataclass(frozen=True, slots=True)
class UnknownEnd:
    """What a parent read of a child whose end was not seen before: it may have expired."""

    parent: TaskKey
    stream_sequence: int
    child: TaskKey
    state: task_pb2.TaskState
    usage: bytes


@dataclass(frozen=True, slots=True)
class Refused:
    """A child of which its parent read that it was never accepted."""

    parent: TaskKey
    stream_sequence: int
    child: TaskKey


class Family:
    """Follows tasks with parents. What it cannot decide alone it keeps in `doubts`."""

    def __init__(self, open_tasks: Mapping[TaskKey, Track]) -> None:
        """`open_tasks`: those that are open after the entries so far."""
        self._open: Final = open_tasks
        self.doubts: Final[list[UnknownParent | UnknownEnd | Refused]] = []

    def check(self, track: Track, entry: Entry) -> list[Finding]:
        """What is wrong between this task, as it is before `entry`, and its relatives."""
        status = entry.event.status
        if entry.kind == "submitted":
            ours = tenants.is_parent(status.parent_task, entry.task.tenant)
            return self._check_child(entry) if ours else []
        if entry.kind == "resumed":
            return self._check_results(track, entry)
        if status.parent_task and status.state in lifecycle.TERMINAL and entry.kind != "expired":
            parent = self._open.get(key_of(status.parent_task))
            if parent is not None:
                name = task_name(entry.task.tenant, entry.task.task_id)
                parent.note_child(name, ChildEnd(status.state, _encoded(status.usage)))
        return []

    def _check_child(self, entry: Entry) -> list[Finding]:
        depth, parent_name = entry.event.submitted.task.depth, entry.event.status.parent_task
        parent = self._open.get(key_of(parent_name))
        if parent is None:
            self.doubts.append(
                UnknownParent(entry.task, entry.stream_sequence, key_of(parent_name))
            )
            above = UNKNOWN_DEPTH
        else:
            above = parent.depth
        if not 1 <= depth <= MAX_DEPTH:
            return [_finding(entry, f"a child is 1 to {MAX_DEPTH} deep, not {depth}")]
        if above != UNKNOWN_DEPTH and depth != above + 1:
            return [_finding(entry, f"it is {depth} deep, and its parent {above}")]
        return []

    def _check_results(self, track: Track, entry: Entry) -> list[Finding]:
        resumed = entry.event.resumed
        if resumed.HasField("children_blob"):
            return []  # its results are not here to be compared
        found: list[Finding] = []
        total = Usage()
        for index, result in enumerate(resumed.children):
            lifecycle.add_usage(total, result.usage)
            if not result.task and not resumed.expired and index < len(track.awaited):
                # One that found no room until a wait ran out may have found it just then.
                child = key_of(track.awaited[index])
                self.doubts.append(Refused(entry.task, entry.stream_sequence, child))
            if not result.task or result.state not in lifecycle.TERMINAL or _is_unreadable(result):
                continue
            child, usage = key_of(result.task), _encoded(result.usage)
            end = track.child_end(result.task)
            if end != ChildEnd(result.state, usage):
                # Another end may have followed, or retention removed the first one.
                self.doubts.append(
                    UnknownEnd(entry.task, entry.stream_sequence, child, result.state, usage)
                )
        if resumed.children and _encoded(total) != _encoded(entry.event.usage):
            found.append(_finding(entry, "its usage is not the sum of what its children used"))
        return found


def _is_unreadable(result: ChildResult) -> bool:
    """Whether the child's log could not be read, so that nobody knows how it ended."""
    return result.HasField("error") and isinstance(from_status(result.error), CorruptData)


def key_of(name: str) -> TaskKey:
    """The task of a resource name; empty parts where it is none."""
    parts = [*name.split("/"), "", "", "", ""]
    return TaskKey(parts[1], parts[3])


def _encoded(usage: Usage) -> bytes:
    return usage.SerializeToString(deterministic=True)


def _finding(entry: Entry, what: str) -> Finding:
    return finding(
        Invariant.CHILDREN,
        entry.task,
        f"Event {entry.event.sequence} ({entry.kind}): {what}.",
        entry.stream_sequence,
    )
