"""How an executor comes to own a task: from a delivered message to a journal."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Delivery
from meshkit.clock import Clock
from meshkit.errors import Conflict, Internal, to_status
from services.executor import attempts
from services.executor.journal import Journal, Log
from tasklog import lifecycle, subjects
from tasklog.policy import Policy
from tasklog.queues import CLAIM_SECONDS
from tasklog.task_log import Entry

# A step during which its executor died is tried once more, and no third time.
_MAX_DEATHS_IN_A_STEP: Final = 2
# In these states a task needs an executor.
_OPEN: Final = frozenset({task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_RUNNING})


class Policies(Protocol):
    """The limits in force, which change at run time."""

    @property
    def current(self) -> Policy: ...


@dataclass(frozen=True, slots=True)
class NotYet:
    """The task may be started later."""

    not_before: datetime


class Claims:
    """Takes tasks over for one executor."""

    def __init__(self, *, log: Log, clock: Clock, writer: str, policies: Policies) -> None:
        self._log = log
        self._clock = clock
        self._writer = writer
        self._policies = policies

    async def claim(self, delivery: Delivery) -> Journal | NotYet | None:
        """Takes the task of a delivered message over by recording that it is started.

        Returns:
            The journal of the task; when to come back; or None where there is
            nothing to do: the task has ended, or waits, or was made runnable
            again by a later message.
        """
        tenant, task_id = subjects.parse(delivery.subject)
        event = TaskEvent.FromString(delivery.payload)
        if event.retried.HasField("not_before"):
            not_before = event.retried.not_before.ToDatetime(tzinfo=self._clock.now().tzinfo)
            if not_before > self._clock.now():
                return NotYet(not_before)
        if _is_whole_log(event, delivery):
            # The usual case: nobody has had the task, and the message is all there is.
            event.status.submitted_stream_sequence = delivery.sequence
            try:
                return await self._start(tenant, task_id, [Entry(event, delivery.sequence)])
            except Conflict:
                pass
        history = [entry async for entry in self._log.read(tenant, task_id)]
        if not history or history[-1].stream_sequence < delivery.sequence:
            # A replica answered that has not heard of the message yet.
            return self._look_again()
        status = history[-1].event.status
        if status.state not in _OPEN or _runnable_sequence(history) > delivery.sequence:
            return None
        try:
            if status.cancel_requested:
                await self._end_cancelled(tenant, task_id, history)
                return None
            if self._is_hopeless(history):
                await self._give_up(tenant, task_id, history)
                return None
            return await self._start(tenant, task_id, history)
        except Conflict:
            # Somebody wrote in between, perhaps only to ask for a cancel: the
            # message is done with when the log says so, and not before.
            return self._look_again()

    def _look_again(self) -> NotYet:
        return NotYet(self._clock.now() + timedelta(seconds=CLAIM_SECONDS))

    async def _start(self, tenant: str, task_id: str, history: list[Entry]) -> Journal:
        last = history[-1]
        event = lifecycle.new_event(last.event.task, self._writer)
        event.started.attempt = last.event.status.attempt + 1
        event.started.resumed_after = last.event.sequence
        await self._append(tenant, task_id, history, event)
        return Journal(
            log=self._log,
            clock=self._clock,
            writer=self._writer,
            tenant=tenant,
            task_id=task_id,
            history=history,
            is_last_attempt=self._attempts_left(history) == 0,
        )

    def _is_hopeless(self, history: list[Entry]) -> bool:
        deaths = attempts.deaths_in_this_step([entry.event for entry in history])
        return deaths >= _MAX_DEATHS_IN_A_STEP or self._attempts_left(history) <= 0

    def _attempts_left(self, history: list[Entry]) -> int:
        lane = self._policies.current.lane(history[-1].event.status.lane)
        return lane.max_attempts - attempts.counted([entry.event for entry in history])

    async def _end_cancelled(self, tenant: str, task_id: str, history: list[Entry]) -> None:
        event = lifecycle.new_event(history[-1].event.task, self._writer)
        event.cancelled.reason = cancel_reason([entry.event for entry in history])
        event.cancelled.SetInParent()
        await self._append(tenant, task_id, history, event)

    async def _give_up(self, tenant: str, task_id: str, history: list[Entry]) -> None:
        status = history[-1].event.status
        event = lifecycle.new_event(history[-1].event.task, self._writer)
        error = Internal(
            f"The executor died during step {status.steps + 1}, in attempt {status.attempt}."
        )
        event.dead_lettered.error.CopyFrom(to_status(error))
        await self._append(tenant, task_id, history, event)

    async def _append(
        self, tenant: str, task_id: str, history: list[Entry], event: TaskEvent
    ) -> None:
        last = history[-1]
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=self._clock.now()
        )
        entry = await self._log.append(tenant, task_id, event, after=last.stream_sequence)
        history.append(entry)


def cancel_reason(events: Sequence[TaskEvent]) -> str:
    """Why the task should stop, in the words of whoever asked."""
    for event in reversed(events):
        if event.WhichOneof("kind") == "cancel_requested":
            return event.cancel_requested.reason
    return ""


def _is_whole_log(event: TaskEvent, delivery: Delivery) -> bool:
    """Whether a message that nobody had before holds everything: large input stands elsewhere."""
    return (
        event.sequence == 1
        and delivery.delivery_count == 1
        and not event.submitted.HasField("input_blob")
    )


def _runnable_sequence(history: list[Entry]) -> int:
    """Stream sequence of the event that last made the task runnable."""
    for entry in reversed(history):
        if entry.event.WhichOneof("kind") in subjects.RUNNABLE_KINDS:
            return entry.stream_sequence
    return 0
