"""The calls of `agentmesh task`, and what they print."""

import asyncio
import time
import uuid
from collections.abc import Awaitable, Callable
from typing import Any, Final, TypeVar

from agentmesh.coordinator.v1.coordinator_service_pb2 import (
    CancelTaskRequest,
    GetTaskRequest,
    ListTaskEventsRequest,
    ListTasksRequest,
    SubmitTaskRequest,
    TextDelta,
)
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli import answer, follow, waiting
from cli.event_line import event_line
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.run_view import line_text, run_view
from cli.task_state import ENDED, good, state_name
from cli.task_table import show_task, show_tasks, show_waiting

T = TypeVar("T")
_MAX_EVENTS: Final = 1_000_000
_LINE_WIDTH: Final = 200
# Under the text of an event's line.
_HINT_INDENT: Final = " " * 30


def submit(invocation: Invocation, request: SubmitTaskRequest, *, wait: bool) -> bool:
    """Submits and prints a task; with `wait` follows it first. False where it failed."""
    # A call that breaks is repeated under the same id, and submits once.
    request.request_id = request.request_id or f"cli-{uuid.uuid4()}"

    async def run(gateway: Gateway) -> tuple[Task, list[TaskEvent], float]:
        began = time.monotonic()
        accepted = await gateway.coordinator.SubmitTask(request, timeout=CALL_SECONDS)
        task: Task = accepted.task
        recorded: list[TaskEvent] = []
        if wait:
            try:
                with run_view(invocation.terminal) as view:
                    async for update in follow.watch(gateway, task.name, deltas=True):
                        if isinstance(update, TextDelta):
                            view.delta(update)
                        else:
                            recorded.append(update)
                            view.event(update)
                            for hint in await waiting.hints(invocation, gateway, update):
                                view.note(hint)
            except asyncio.CancelledError:
                waiting.say_it_goes_on(invocation, task.name)
                raise
            task = await _get(gateway, task.name)
        return task, recorded, time.monotonic() - began

    task, recorded, took = _call(invocation, run)
    terminal = invocation.terminal
    if not wait:
        if terminal.as_json:
            terminal.document({"task": to_plain(task)})
        else:
            terminal.say(task.name)
        return True
    timing = answer.Timing(0.0, 0.0, took, time.monotonic() - invocation.started)
    if terminal.as_json:
        terminal.document(answer.document(task, recorded, timing))
    else:
        answer.show(terminal, task, recorded, timing)
    if not good(task):
        terminal.fail(answer.failure(task))
    return good(task)


def get(invocation: Invocation, name: str) -> None:
    """Prints a task."""

    async def run(gateway: Gateway) -> tuple[Task, list[Task]]:
        task = await _get(gateway, name)
        return task, await waiting.children(gateway, task.wait)

    task, children = _call(invocation, run)
    if invocation.terminal.as_json:
        document: dict[str, Any] = {"task": to_plain(task)}
        if children:
            document["children"] = [to_plain(each) for each in children]
        invocation.terminal.document(document)
    else:
        show_task(invocation, task, children)


def list_tasks(invocation: Invocation, request: ListTasksRequest, limit: int) -> None:
    """Prints the newest tasks that fit."""

    async def run(gateway: Gateway) -> list[Task]:
        return await collect(
            gateway.coordinator.ListTasks, request, lambda page: page.tasks, limit=limit
        )

    tasks = _call(invocation, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"tasks": [to_plain(each) for each in tasks]})
    else:
        show_tasks(invocation.terminal, tasks)


def list_waiting(invocation: Invocation, request: ListTasksRequest, limit: int) -> None:
    """Prints the newest waiting tasks that fit, with what they wait for."""

    async def run(gateway: Gateway) -> list[Task]:
        listed = await collect(
            gateway.coordinator.ListTasks, request, lambda page: page.tasks, limit=limit
        )
        # The list does not hold what is waited for, and may be a moment late.
        tasks = [await _get(gateway, each.name) for each in listed]
        return [each for each in tasks if each.state == TaskState.TASK_STATE_WAITING]

    tasks = _call(invocation, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"tasks": [to_plain(each) for each in tasks]})
    else:
        show_waiting(invocation.terminal, tasks)


def watch(invocation: Invocation, name: str, after: int) -> bool:
    """Prints events until the task ends. False where it ended without a result."""

    async def run(gateway: Gateway) -> Task:
        async for update in follow.watch(gateway, name, after_sequence=after):
            if isinstance(update, TaskEvent):
                _print_event(invocation, update)
                if not invocation.terminal.as_json:
                    for hint in await waiting.hints(invocation, gateway, update):
                        invocation.terminal.progress(_HINT_INDENT + hint)
        return await _get(gateway, name)

    return good(_call(invocation, run))


def events(invocation: Invocation, name: str, after: int) -> None:
    """Prints the events recorded so far."""

    async def run(gateway: Gateway) -> list[TaskEvent]:
        request = ListTaskEventsRequest(name=name)
        return await collect(
            gateway.coordinator.ListTaskEvents, request, lambda page: page.events, limit=_MAX_EVENTS
        )

    for event in _call(invocation, run):
        if event.sequence > after:
            _print_event(invocation, event)


def cancel(invocation: Invocation, name: str, reason: str) -> None:
    """Asks for a task to stop and prints where it stands then."""

    async def run(gateway: Gateway) -> Task:
        request = CancelTaskRequest(name=name, reason=reason, request_id=f"cli-{uuid.uuid4()}")
        return (await gateway.coordinator.CancelTask(request, timeout=CALL_SECONDS)).task

    task = _call(invocation, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"task": to_plain(task)})
    elif task.state in ENDED:
        invocation.terminal.say(f"{task.name} is {state_name(task.state)}.")
    else:
        invocation.terminal.say(
            f"{task.name} was asked to stop; it is {state_name(task.state)} still."
        )


def _call(invocation: Invocation, ask: Callable[[Gateway], Awaitable[T]]) -> T:
    return call(address_of(invocation), invocation.tenant, ask)


async def _get(gateway: Gateway, name: str) -> Task:
    return (await gateway.coordinator.GetTask(GetTaskRequest(name=name), timeout=CALL_SECONDS)).task


def _print_event(invocation: Invocation, event: TaskEvent) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.line(to_plain(event))
    else:
        line = line_text(event_line(event), _LINE_WIDTH)
        invocation.terminal.say(f"{event.sequence:4d}  {line}")
