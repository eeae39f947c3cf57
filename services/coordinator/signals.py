"""Signals: approvals, rejections and answers that a waiting task goes on with."""

from collections.abc import AsyncIterator, Mapping
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskWait
from meshkit.clock import Clock
from meshkit.errors import (
    Conflict,
    InvalidField,
    RequestIdReused,
    TaskNotFound,
    TaskStateError,
)
from tasklog import lifecycle, subjects
from tasklog.task_log import Entry

# What a task may be told, by what it waits for.
_ANSWERS: Final[Mapping[str, frozenset[str]]] = {
    "approval": frozenset({"approval", "rejection"}),
    "input": frozenset({"input"}),
}
_WITH_ARTICLE: Final = {"approval": "an approval", "rejection": "a rejection", "input": "input"}
# Each turn is lost to one event of the task, and only a wait lets another one follow.
_TURNS: Final = 5
# By then a replica that was behind has caught up.
_LOOK_AGAIN_SECONDS: Final = 1.0


class Log(Protocol):
    """The event log of every task."""

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry: ...
    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...
    def read_stored(self, tenant: str, task_id: str) -> AsyncIterator[Entry]: ...


class Signals:
    """Hands signals to waiting tasks."""

    def __init__(self, log: Log, clock: Clock, *, writer: str) -> None:
        self._log = log
        self._clock = clock
        self._writer = writer

    async def send(
        self,
        tenant: str,
        task_id: str,
        signal: TaskSignal,
        request_id: str,
        *,
        last_sequence: int = 0,
    ) -> Task:
        """Has the task go on with `signal`, once for each `request_id`.

        Of two signals at once one wins, and the other finds a task that no
        longer waits, or for something else: it is not taken for that. A repeat of
        what the task went on with answers the task as it is.

        Args:
            tenant: Whose task it is.
            task_id: The task.
            signal: What it is told, as `signal_convert.signal` leaves it.
            request_id: Makes the call repeatable; may be empty.
            last_sequence: The task's last event that the sender has seen; 0 where the
                signal is for whatever the task waits for.

        Raises:
            TaskNotFound: There is no such task.
            InvalidField: The task has no event `last_sequence`.
            TaskStateError: The task does not wait, or for something else.
            RequestIdReused: `request_id` sent the task another signal.
            Conflict: The task moved on so often that the signal found no gap.
        """
        about = last_sequence
        for turn in range(_TURNS):
            last = await self._last(tenant, task_id, last_sequence)
            if request_id and await self._was_sent(
                tenant, task_id, signal, request_id, last_sequence
            ):
                break
            event = self._resumed(last.event, signal, request_id, about=about)
            # Whatever the task waits for when this is lost to another, it is not that.
            about = last.event.sequence
            try:
                await self._log.append(tenant, task_id, event, after=last.stream_sequence)
            except Conflict:
                if turn + 1 == _TURNS:
                    raise
                continue
            break
        return await self._log.task(tenant, task_id)

    async def _last(self, tenant: str, task_id: str, seen: int) -> Entry:
        """The task's last event: `seen`, or a later one."""
        last = await self._log.last(tenant, task_id)
        if seen and (last is None or last.event.sequence < seen):
            # Any replica answers, and the sender was answered by another.
            await self._clock.sleep(_LOOK_AGAIN_SECONDS)
            last = await self._log.last(tenant, task_id)
        if last is None:
            raise TaskNotFound(f"There is no task {subjects.task_name(tenant, task_id)!r}.")
        if last.event.sequence < seen:
            raise InvalidField(
                "last_sequence", f"must be at most {last.event.sequence}, the task's last event"
            )
        return last

    async def _was_sent(
        self, tenant: str, task_id: str, signal: TaskSignal, request_id: str, seen: int
    ) -> bool:
        async for entry in self._log.read_stored(tenant, task_id):
            resumed = entry.event.resumed
            if resumed.request_id == request_id:
                # The event before is the wait that it ended.
                about = entry.event.sequence - 1
                if seen not in (0, about) or _content(resumed.signal) != _content(signal):
                    raise RequestIdReused(
                        f"request_id {request_id!r} sent {entry.event.task!r} another signal."
                        " Use a new request_id for a new signal."
                    )
                return True
        return False

    def _resumed(
        self, last: TaskEvent, signal: TaskSignal, request_id: str, *, about: int
    ) -> TaskEvent:
        """What the log says once `signal` has come; TaskStateError where it may not.

        `about`: the sequence of the wait that the signal is to end; 0 for whatever it is.
        """
        state = last.status.state
        if state in lifecycle.TERMINAL:
            raise _refused(last, f"has ended: it is {lifecycle.state_name(state)}.")
        if state != task_pb2.TASK_STATE_WAITING:
            raise _refused(last, f"does not wait: it is {lifecycle.state_name(state)}.")
        wait, kind = last.waiting.wait, signal.WhichOneof("kind") or ""
        if about not in (0, last.sequence):
            raise _refused(
                last,
                f"waits {_what_for(wait)} by now, at last_sequence {last.sequence};"
                f" the signal is about {about}. Look at it again, then decide.",
            )
        wanted = _ANSWERS.get(wait.WhichOneof("reason") or "", frozenset())
        if kind not in wanted:
            hint = (
                f"Send {' or '.join(_WITH_ARTICLE[each] for each in sorted(wanted))},"
                f" not {_WITH_ARTICLE[kind]}."
                if wanted
                else "No signal ends that; cancelling the task does."
            )
            raise _refused(last, f"waits {_what_for(wait)}. {hint}")
        event = lifecycle.new_event(last.task, self._writer)
        event.resumed.signal.CopyFrom(signal)
        event.resumed.request_id = request_id
        return lifecycle.advance(
            last.status, event, sequence=last.sequence + 1, time=self._clock.now()
        )


def _content(signal: TaskSignal) -> TaskSignal:
    """What was said, whoever said it."""
    content = TaskSignal()
    content.CopyFrom(signal)
    content.ClearField("sender")
    return content


def _refused(last: TaskEvent, how_it_stands: str) -> TaskStateError:
    return TaskStateError(
        f"{last.task} {how_it_stands}",
        metadata={"state": lifecycle.state_name(last.status.state)},
    )


def _what_for(wait: TaskWait) -> str:
    match wait.WhichOneof("reason"):
        case "approval":
            return f"for approval of its call of {wait.approval.call.tool!r}"
        case "input":
            return "for an answer to its question"
        case "children":
            return f"for its {len(wait.children.tasks)} child tasks"
        case _:
            return f"until {wait.until.ToJsonString()}"
