"""Ctrl-C while a task is followed that the command has submitted."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from signal import SIGINT
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli.command_mesh import commands_for

_NAME = "tenants/default/tasks/t1"
_PROGRAM = "from cli.app import app; app.main(prog_name='agentmesh')"


class _Coordinator(CoordinatorServiceServicer):
    """One task, which never ends."""

    async def SubmitTask(
        self, request: pb.SubmitTaskRequest, context: Any
    ) -> pb.SubmitTaskResponse:
        return pb.SubmitTaskResponse(task=Task(name=_NAME))

    async def RunTask(
        self, request: pb.RunTaskRequest, context: Any
    ) -> AsyncIterator[pb.RunTaskResponse]:
        yield pb.RunTaskResponse(task=Task(name=_NAME))
        yield pb.RunTaskResponse(event=self._started())
        await asyncio.Event().wait()

    async def WatchTask(
        self, request: pb.WatchTaskRequest, context: Any
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        yield pb.WatchTaskResponse(event=self._started())
        await asyncio.Event().wait()

    def _started(self) -> TaskEvent:
        event = TaskEvent(sequence=1, task=_NAME)
        event.status.state = TaskState.TASK_STATE_RUNNING
        event.started.attempt = 1
        return event


@pytest.mark.parametrize("words", [("ask", "Wait."), ("task", "submit", "Wait.", "--wait")])
async def test_who_stops_following_a_task_is_told_that_it_goes_on(words: tuple[str, ...]) -> None:
    """It may cost money: how to end it is said, too."""
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    async with commands_for(CoordinatorService=servicer()) as commands:
        process = await asyncio.create_subprocess_exec(
            *(sys.executable, "-c", _PROGRAM, *words, "--gateway", commands.gateway),
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env={**os.environ, "PYTHONPATH": os.pathsep.join(filter(None, sys.path))},
        )
        assert process.stderr is not None
        async for line in process.stderr:
            if b"attempt 1" in line:
                break
        process.send_signal(SIGINT)
        _, told = await process.communicate()
    assert told.decode().splitlines() == [
        "The task goes on all the same. To follow it, or to end it:",
        f"  agentmesh task watch t1 --gateway {commands.gateway}",
        f"  agentmesh task cancel t1 --gateway {commands.gateway}",
        "",
        "error: Interrupted.",
    ]
    assert process.returncode == 130
