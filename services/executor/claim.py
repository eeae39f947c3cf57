"""How an executor comes to own a task: from a delivered message to a journal."""

import contextlib
from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.bus import Delivery
from meshkit.clock import Clock
from meshkit.errors import Conflict, CorruptData, Internal, to_status
from services.executor import attempts
from services.executor.journal import History, Journal, Log
from services.executor.policies import Policies
from tasklog import lifecycle, subjects
from tasklog.queues import CLAIM_SECONDS
from tasklog.task_log import Entry, event_of

# A step during which its executor died is tried once more, and no third time.
_MAX_DEATHS_IN_A_STEP: Final = 2
# How long a message is put off at a time.
_LONGEST_PAUSE: Final = timedelta(seconds=60)
# In these states a task needs an executor.
_OPEN: Final = frozenset({task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_RUNNING})


@dataclass(frozen=True, slots=True)
class NotYet:
    """The task may be started later."""

    not_before: datetime


class Histories(Protocol):
    """What has happened to tasks."""

    async def read(self, tenant: str, task_id: str) -> History:
        """The whole history of a task; without entries if there is none.

        Raises:
            CorruptData: The log cannot be read, or is not one.
        """
        ...

    def grown(self, history: History) -> None:
        """Is told of every event that this executor appends."""
        ...


class Claims:
    """Takes tasks over for one executor."""

    def __init__(
        self, *, log: Log, histories: Histories, clock: Clock, writer: str, policies: Policies
    ) -> None:
        self._log = log
        self._histories = histories
        self._clock = clock
        self._writer = writer
        self._policies = policies

    async def claim(self, delivery: Delivery) -> Journal | NotYet | None:
        """Takes the task of a delivered message over by recording that it is started.

        Returns:
            The journal of the task; when to come back; or None where there is
            nothing to do: the task has ended, or waits, or was made runnable
            again by a later message, or has a log that cannot be read and is a
            dead letter now.

        Raises:
            CorruptData: There is no log, only something that is no event.
            NewerFormat: An executor of a later version can read the log.
        """
        tenant, task_id = subjects.parse(delivery.subject)
        try:
            return await self._claim(tenant, task_id, delivery)
        except CorruptData as error:
            return await self._bury(tenant, task_id, delivery, error)
        except Conflict:
            # Somebody wrote in between, perhaps only to ask for a cancel: the
            # message is done with when the log says so, and not before.
            return self._look_again()

    async def _claim(
        self, tenant: str, task_id: str, delivery: Delivery
    ) -> Journal | NotYet | None:
        event = event_of(delivery)
        if event.retried.HasField("not_before"):
            not_before = event.retried.not_before.ToDatetime(tzinfo=self._clock.now().tzinfo)
            if not_before > self._clock.now():
                # It may be the clock here that is wrong: somebody else may look, too.
                return NotYet(min(not_before, self._clock.now() + _LONGEST_PAUSE))
        if _is_whole_log(event, delivery):
            # The usual case: nobody has had the task, and the message is all there is.
            with contextlib.suppress(Conflict):
                return await self._start(
                    History(tenant, task_id, [Entry(event, delivery.sequence)])
                )
        history = await self._histories.read(tenant, task_id)
        if not history.entries or history.last.stream_sequence < delivery.sequence:
            # A replica answered that has not heard of the message yet.
            return self._look_again()
        status = history.last.event.status
        if status.state not in _OPEN or _runnable_sequence(history.entries) > delivery.sequence:
            return None
        if status.cancel_requested:
            await self._end_cancelled(history)
            return None
        if self._is_hopeless(history):
            await self._give_up(history)
            return None
        return await self._start(history)

    def _look_again(self) -> NotYet:
        return NotYet(self._clock.now() + timedelta(seconds=CLAIM_SECONDS))

    async def _start(self, history: History) -> Journal:
        last = history.last.event
        event = lifecycle.new_event(last.task, self._writer)
        started = event.started
        started.attempt = last.status.attempt + 1
        started.resumed_after = last.sequence
        await self._append(history, event)
        return Journal(
            log=self._log,
            clock=self._clock,
            writer=self._writer,
            history=history,
            grown=self._histories.grown,
            is_last_attempt=self._attempts_left(history) == 0,
        )

    def _is_hopeless(self, history: History) -> bool:
        deaths = attempts.deaths_in_this_step([entry.event for entry in history.entries])
        return deaths >= _MAX_DEATHS_IN_A_STEP or self._attempts_left(history) <= 0

    def _attempts_left(self, history: History) -> int:
        lane = self._policies.current.lane(history.last.event.status.lane)
        return lane.max_attempts - attempts.counted([entry.event for entry in history.entries])

    async def _end_cancelled(self, history: History) -> None:
        event = lifecycle.new_event(history.last.event.task, self._writer)
        event.cancelled.reason = cancel_reason([entry.event for entry in history.entries])
        event.cancelled.SetInParent()
        await self._append(history, event)

    async def _give_up(self, history: History) -> None:
        status = history.last.event.status
        event = lifecycle.new_event(history.last.event.task, self._writer)
        error = Internal(
            f"The executor died during step {status.steps + 1}, in attempt {status.attempt}."
        )
        event.dead_lettered.error.CopyFrom(to_status(error))
        await self._append(history, event)

    async def _bury(
        self, tenant: str, task_id: str, delivery: Delivery, error: CorruptData
    ) -> NotYet | None:
        """Makes a task whose log cannot be read a dead letter: it would be met for ever."""
        last = await self._log.last_readable(tenant, task_id)
        if last is None or last.stream_sequence < delivery.sequence:
            event_of(delivery)  # raises where the message itself is no event
            # A replica answered that has not heard of the message yet.
            return self._look_again()
        if last.event.status.state not in _OPEN:
            return None
        event = lifecycle.new_event(last.event.task, self._writer)
        event.dead_lettered.error.CopyFrom(to_status(error))
        try:
            await self._append(History(tenant, task_id, [last]), event)
        except Conflict:
            return self._look_again()
        return None

    async def _append(self, history: History, event: TaskEvent) -> None:
        last = history.last
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=self._clock.now()
        )
        history.entries.append(
            await self._log.append(
                history.tenant, history.task_id, event, after=last.stream_sequence
            )
        )


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


def _runnable_sequence(entries: Sequence[Entry]) -> int:
    """Stream sequence of the event that last made the task runnable."""
    for entry in reversed(entries):
        if entry.event.WhichOneof("kind") in subjects.RUNNABLE_KINDS:
            return entry.stream_sequence
    return 0
