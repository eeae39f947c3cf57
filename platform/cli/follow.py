"""Following a task to its end, over broken connections."""

import asyncio
import time
from collections.abc import AsyncGenerator, AsyncIterator
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import (
    GetTaskRequest,
    RunTaskRequest,
    TextDelta,
    WatchTaskRequest,
)
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.gateway import CALL_SECONDS, Gateway
from cli.task_state import ENDED
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, MeshError, ShuttingDown

Update = Task | TaskEvent | TextDelta

# One call of a stream; when it is over, the next goes on after the last event.
_STREAM_SECONDS: Final = 3600.0
# How long a task is followed without hearing from the mesh.
PATIENCE_SECONDS: Final = 30.0
_PAUSE_SECONDS: Final = 0.25
_BROKEN: Final = (DependencyUnavailable, DeadlineExceeded, ShuttingDown)


async def run(gateway: Gateway, request: RunTaskRequest) -> AsyncGenerator[Update]:
    """Submits a task and follows it: the task first, its events and text, the ended task last.

    Raises MeshError where the task is not accepted, or where the mesh is not
    heard of for PATIENCE_SECONDS; the task goes on all the same.
    """
    name = ""
    seen = 0
    try:
        async for answer in gateway.coordinator.RunTask(request, timeout=_STREAM_SECONDS):
            match answer.WhichOneof("update"):
                case "task":
                    name = answer.task.name
                    yield answer.task
                    if answer.task.state in ENDED:
                        return
                case "event":
                    seen = answer.event.sequence
                    yield answer.event
                case "delta":
                    yield answer.delta
                case _:
                    pass  # of a newer version
    except _BROKEN:
        if not name:
            raise
    async for update in watch(gateway, name, after_sequence=seen, deltas=True, patient=True):
        yield update
    answer = await gateway.coordinator.GetTask(GetTaskRequest(name=name), timeout=CALL_SECONDS)
    yield answer.task


async def watch(
    gateway: Gateway,
    name: str,
    *,
    after_sequence: int = 0,
    deltas: bool = False,
    patient: bool = False,
) -> AsyncIterator[TaskEvent | TextDelta]:
    """A task's events after a sequence, each once, to its end.

    A connection that breaks is taken up again for PATIENCE_SECONDS; before the
    first event only where `patient`.
    """
    heard = time.monotonic() if patient else float("-inf")
    while True:
        ended = False
        try:
            request = WatchTaskRequest(
                name=name, after_sequence=after_sequence, include_deltas=deltas
            )
            async for answer in gateway.coordinator.WatchTask(request, timeout=_STREAM_SECONDS):
                heard = time.monotonic()
                if answer.WhichOneof("update") == "event":
                    after_sequence = answer.event.sequence
                    ended = answer.event.status.state in ENDED
                    yield answer.event
                elif answer.WhichOneof("update") == "delta":
                    yield answer.delta
            if ended or await _has_ended(gateway, name, after_sequence):
                return
        except _BROKEN as error:
            _give_up_after(PATIENCE_SECONDS, heard, error)
        await asyncio.sleep(_PAUSE_SECONDS)


async def _has_ended(gateway: Gateway, name: str, seen: int) -> bool:
    answer = await gateway.coordinator.GetTask(GetTaskRequest(name=name), timeout=CALL_SECONDS)
    return answer.task.state in ENDED and answer.task.last_sequence <= seen


def _give_up_after(patience_seconds: float, heard: float, error: MeshError) -> None:
    if time.monotonic() - heard > patience_seconds:
        raise error
