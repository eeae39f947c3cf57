"""Runs one delivered task to the end of its attempt, whatever happens."""

import asyncio
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Final, Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from meshkit import deadline, identity, urgency
from meshkit.clock import Clock
from meshkit.errors import (
    Conflict,
    CorruptData,
    DependencyUnavailable,
    Fenced,
    Internal,
    MeshError,
    NewerFormat,
    QueueFull,
    ShuttingDown,
    to_status,
)
from meshkit.log import Log
from meshkit.time_limit import within
from services.executor.claim import Claims, NotYet, cancel_reason
from services.executor.ending import finish_partial
from services.executor.failures import Failures
from services.executor.held import Held
from services.executor.interruptible import Interruptible, Reason
from services.executor.journal import CancelRequestedError, Journal

# Kept back from the time limit for recording the result.
_RECORDING_SECONDS: Final = 0.25
# How long a stopping executor tries to give a task back in good order.
_HAND_BACK_SECONDS: Final = 1.0
# Between attempts to record how an attempt ended; each takes as long as an append may.
_RECORD_AGAIN_SECONDS: Final = 1.0
# Executors of a later version, which can read a task that is handed back, come and go.
_OTHERS_LOOK_SECONDS: Final = 2.0


class Agents(Protocol):
    """Run tasks as their agents say."""

    async def run(self, journal: Journal) -> None:
        """Appends steps until the task has ended or waits."""
        ...


class Runner:
    """Takes a delivery, runs the task, and settles the delivery."""

    def __init__(
        self,
        *,
        claims: Claims,
        agents: Agents,
        failures: Failures,
        clock: Clock,
        log: Log,
    ) -> None:
        self._claims = claims
        self._agents = agents
        self._failures = failures
        self._clock = clock
        self._log = log
        # Tasks whose agent is running now, to be stopped when a cancel arrives.
        self._running: dict[tuple[str, str], Interruptible] = {}

    def cancel(self, tenant: str, task_id: str) -> None:
        """Stops the step that a task is at, if this executor runs it."""
        running = self._running.get((tenant, task_id))
        if running is not None:
            running.interrupt(Reason.CANCEL_WAS_ASKED_FOR)

    async def run(self, held: Held) -> None:
        """Runs the task of a delivery until it ends, waits, or is to be tried again later.

        The delivery is acknowledged after that is recorded. Where this
        executor lost the task, the delivery is its new owner's business.
        """
        try:
            claimed = await self._claims.claim(held.latest)
        except CorruptData as error:
            # No event of this task can be read: there is nothing to record it on.
            self._log.error("task.unreadable", subject=held.latest.subject, error=str(error))
            claimed = None
        except NewerFormat as error:
            self._log.warning("task.newer_format", subject=held.latest.subject, error=str(error))
            await held.not_now(_OTHERS_LOOK_SECONDS)
            return
        if claimed is None:
            await held.acknowledge()
            return
        if isinstance(claimed, NotYet):
            pause = (claimed.not_before - self._clock.now()).total_seconds()
            await held.not_now(max(pause, 0.0))
            return
        try:
            is_awaited = claimed.status.lane == tier_pb2.LANE_INTERACTIVE
            with (
                identity.use(identity.make(claimed.tenant, "service:executor")),
                urgency.use(is_awaited),
            ):
                await self._attempt(claimed)
        except (Fenced, Conflict) as error:
            if claimed.status.state == task_pb2.TASK_STATE_RUNNING:
                self._log.info("task.lost", task=claimed.task.name, why=str(error))
                return
            # What was on its way when the attempt was stopped has been its end.
        except asyncio.CancelledError:
            await self._hand_back(claimed, held)
            raise
        await held.acknowledge()

    async def _hand_back(self, journal: Journal, held: Held) -> None:
        """Puts the task back into its lane: this executor is told to stop."""
        event = journal.event()
        event.retried.error.CopyFrom(to_status(ShuttingDown("The executor was told to stop.")))
        try:
            with within(_HAND_BACK_SECONDS):
                await journal.append(event)
                await held.acknowledge()
        except (MeshError, CancelRequestedError, TimeoutError):
            # The claim runs out by itself, and its next owner finds the log as it is.
            return

    async def _attempt(self, journal: Journal) -> None:
        try:
            await self._run_agent(journal)
        except TimeoutError:
            await self._record(journal, partial(_end_at_limit, journal))
        except CancelRequestedError:
            await self._record(journal, partial(_end_cancelled, journal))
        except (Fenced, Conflict):
            raise
        except MeshError as error:
            await self._record(journal, partial(self._failures.record, journal, error))
        except Exception as error:
            self._log.exception("task.crashed", task=journal.task.name)
            failure = Internal(f"The step failed by a fault of Agentmesh: {type(error).__name__}.")
            await self._record(journal, partial(self._failures.record, journal, failure))

    async def _run_agent(self, journal: Journal) -> None:
        """Runs the agent within the task's time.

        Raises:
            TimeoutError: The task's time ran out.
            CancelRequestedError: The task was cancelled.
        """
        now_seconds = self._clock.now().timestamp()
        left = journal.status.deadline.ToMicroseconds() / 1e6 - now_seconds - _RECORDING_SECONDS
        if left <= 0:
            raise TimeoutError
        key = (journal.tenant, journal.task_id)
        running = self._running[key] = Interruptible()
        timer = asyncio.get_running_loop().call_later(left, running.interrupt, Reason.TIME_IS_UP)
        try:
            with deadline.limit(left):
                await self._agents.run(journal)
        except asyncio.CancelledError:
            reason = running.caught()
            if reason is None:
                raise  # this executor stops
            if reason is Reason.TIME_IS_UP:
                raise TimeoutError from None
            if not await journal.refresh():
                raise Fenced(f"{journal.task.name} was stopped without a request.") from None
            raise CancelRequestedError from None
        except MeshError as error:
            # Every call inside shares the task's time: the last one to fail
            # does so a moment before the clock here.
            if self._clock.now().timestamp() >= now_seconds + left - _RECORDING_SECONDS:
                raise TimeoutError from error
            raise
        finally:
            timer.cancel()
            running.close()
            if self._running.get(key) is running:
                del self._running[key]

    async def _record(self, journal: Journal, record: Callable[[], Awaitable[None]]) -> None:
        """Has `record` append how the attempt ended, however long the broker is away.

        Whoever finds an attempt without an end takes its executor for dead.
        """
        while True:
            try:
                await record()
                return
            except CancelRequestedError:
                record = partial(_end_cancelled, journal)
            except (DependencyUnavailable, QueueFull):
                await self._clock.sleep(_RECORD_AGAIN_SECONDS)


async def _end_cancelled(journal: Journal) -> None:
    """Ends a task as somebody asked."""
    event = journal.event()
    event.cancelled.reason = cancel_reason(journal.events)
    event.cancelled.SetInParent()
    await journal.append(event)


async def _end_at_limit(journal: Journal) -> None:
    """Ends a task whose time is up with what it has, a step that was on its way included."""
    if await journal.refresh():
        raise CancelRequestedError
    status = journal.status
    allowed_seconds = status.time_limit.ToNanoseconds() / 1e9
    note = TaskNote(
        code="TIME_LIMIT",
        text=f"Stopped at the time limit of {allowed_seconds:g} s, after {status.steps}"
        " steps; what follows from them is missing.",
    )
    await finish_partial(journal, note)
