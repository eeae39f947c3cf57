"""Parents and children: submitted under names that the parent's log gives, collected, stopped."""

import asyncio
from collections.abc import Sequence
from typing import Final, Protocol

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit import names
from meshkit.errors import (
    CorruptData,
    MeshError,
    QueueFull,
    TaskNotFound,
    is_retryable,
    to_status,
)
from services.coordinator.acceptance import Accepted, Gate
from services.coordinator.waits import Standing
from tasklog import lifecycle
from tasklog.task_log import Entry

# The results of all children of a wait stand in one event, which has to be sent whole.
MAX_RESULTS_BYTES: Final = 4 * 1024 * 1024
# A family of a hundred is looked at within the time that a coordinator has for it, also
# where the broker is slow: who does not come to the end begins anew.
_SIDE_BY_SIDE: Final = 10
# Where a full queue does not say when to come back.
_RETRY_SECONDS: Final = 1.0


class Log(Protocol):
    """The event log of every task."""

    async def last(self, tenant: str, task_id: str) -> Entry | None: ...
    async def task(self, tenant: str, task_id: str) -> Task: ...


class Acceptance(Protocol):
    """Accepts tasks durably, once for each id."""

    async def accept(
        self, tenant: str, requested: Task, *, task_id: str, gates: Sequence[Gate]
    ) -> Accepted: ...


class Canceller(Protocol):
    """Asks tasks to stop."""

    async def cancel(self, tenant: str, task_id: str, reason: str) -> Task: ...


class Family:
    """The children that tasks wait for."""

    def __init__(
        self, log: Log, acceptance: Acceptance, canceller: Canceller, *, gates: Sequence[Gate]
    ) -> None:
        """`gates` are those that children must pass, beside the limits of their parent."""
        self._log = log
        self._acceptance = acceptance
        self._canceller = canceller
        self._gates = gates

    async def standing(self, tenant: str, waiting: TaskWaiting, *, submit: bool) -> Standing:
        """How each child stands; with `submit`, those that are not there yet are submitted.

        A child that cannot be accepted has its error as its result. One that
        finds the queue full is to be tried again.

        Raises:
            DependencyUnavailable: The broker cannot be reached in time.
        """
        results: list[ChildResult] = []
        retries_seconds: list[float] = []
        for start in range(0, len(waiting.children), _SIDE_BY_SIDE):
            some = waiting.children[start : start + _SIDE_BY_SIDE]
            for outcome in await asyncio.gather(
                *(self._result(tenant, child, submit=submit) for child in some),
                return_exceptions=True,
            ):
                match outcome:
                    case QueueFull() as error:
                        results.append(ChildResult(error=to_status(error)))
                        if submit:
                            retries_seconds.append(error.retry_after_seconds or _RETRY_SECONDS)
                    case BaseException():
                        raise outcome
                    case result:
                        results.append(result)
        return Standing(_bounded(results), min(retries_seconds, default=None))

    async def any_open(self, tenant: str, waiting: TaskWaiting) -> bool:
        """Whether a child is there that has not ended."""
        # Those that were submitted last mostly end last: looking at them first is quickest.
        for child in reversed(waiting.children):
            try:
                last = await self._log.last(tenant, _id(child.name))
            except CorruptData:
                continue  # what it left cannot be read: `_result` says so
            if last is not None and last.event.status.state not in lifecycle.TERMINAL:
                return True
        return False

    async def cancel(self, tenant: str, waiting: TaskWaiting, reason: str) -> None:
        """Asks every child that has not ended to stop."""
        for child in waiting.children:
            try:
                await self._canceller.cancel(tenant, _id(child.name), reason)
            except (TaskNotFound, CorruptData):
                continue  # it was never accepted, or has ended

    async def _result(self, tenant: str, child: Task, *, submit: bool) -> ChildResult:
        try:
            task = await self._task(tenant, child, submit=submit)
        except QueueFull:
            raise
        except CorruptData as error:
            return ChildResult(
                task=child.name, state=task_pb2.TASK_STATE_FAILED, error=to_status(error)
            )
        except MeshError as error:
            if is_retryable(error):
                raise
            return ChildResult(error=to_status(error))
        result = ChildResult(
            task=task.name, state=task.state, citations=task.citations, usage=task.usage
        )
        if task.HasField("output"):
            result.output.CopyFrom(task.output)
        if task.HasField("error"):
            result.error.CopyFrom(task.error)
        return result

    async def _task(self, tenant: str, child: Task, *, submit: bool) -> Task:
        try:
            return await self._log.task(tenant, _id(child.name))
        except TaskNotFound:
            if not submit:
                raise QueueFull(
                    "The wait ran out before this child found room in the queue."
                ) from None
            accepted = await self._acceptance.accept(
                tenant, child, task_id=_id(child.name), gates=self._gates
            )
            return accepted.task


def _id(name: str) -> str:
    return names.TASK.parse(name, field="children.name")[1]


def _bounded(results: Sequence[ChildResult]) -> Sequence[ChildResult]:
    """`results`, with the longest outputs cut where all together are too long."""
    if sum(result.ByteSize() for result in results) <= MAX_RESULTS_BYTES:
        return results
    share = MAX_RESULTS_BYTES // len(results)
    for result in results:
        if result.ByteSize() > share:
            text = result.output.text.encode()[: share // 2].decode(errors="ignore")
            del result.citations[:]
            result.output.Clear()
            result.output.text = f"{text}\n(Cut here. {result.task} has all of it.)"
    return results
