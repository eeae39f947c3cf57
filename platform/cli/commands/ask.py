"""`agentmesh ask`."""

import os
import time
import uuid
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

import click

from cli import document_files, model_keys
from cli.choices import LANES
from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.task_input import checked_text

if TYPE_CHECKING:
    from agentmesh.coordinator.v1.coordinator_service_pb2 import RunTaskRequest
    from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
    from agentmesh.coordinator.v1.task_pb2 import Task
    from agentmesh.memory.v1.document_pb2 import UpsertedDocument
    from agentmesh.reasoning.v1.model_pb2 import Model
    from cli.answer import Timing
    from cli.document_files import Found
    from cli.follow import Update
    from cli.gateway import Gateway

# The task keeps waiting for a person.
_WAITING_EXIT: Final = 3


@click.command(
    cls=MeshCommand,
    examples=[
        Example(
            'agentmesh ask "What is 17.5% of 2,480, and which of our runbooks mentions'
            ' rate limits?" --docs docs/',
            "ask about a folder of documents",
        ),
        Example(
            'agentmesh ask "Our travel budget is 4,000 euros." --session budget',
            "say something that a session remembers",
        ),
        Example(
            'agentmesh ask "What is our travel budget?" --session budget',
            "ask for it later in the same session",
        ),
        Example(
            'agentmesh ask "What is 12 * 12?" --json | jq -r .answer', "use the answer in a script"
        ),
        Example("agentmesh ask - < question.txt", "read the question from stdin"),
    ],
)
@click.argument("text")
@click.option(
    "--agent", default="", metavar="AGENT", help="Who answers, such as assistant or assistant@2."
)
@click.option(
    "--task-type",
    default="",
    metavar="TYPE",
    help="What kind of work it is, for budgets and reports (default: the agent's name).",
)
@click.option(
    "--docs",
    "paths",
    multiple=True,
    type=click.Path(path_type=Path),
    metavar="PATH",
    help="A document, or a folder of them (.md .markdown .txt .html .htm .pdf), to answer from. "
    "May be given several times. They stay in the tenant's knowledge.",
)
@click.option(
    "--session", default="", metavar="NAME", help="Remember the conversation under this name."
)
@click.option(
    "--lane",
    type=click.Choice(list(LANES)),
    default="interactive",
    show_default=True,
    help="Which queue to wait in.",
)
@pass_invocation
def ask(
    invocation: Invocation,
    text: str,
    agent: str,
    task_type: str,
    paths: Sequence[Path],
    session: str,
    lane: str,
) -> None:
    """Ask an agent and print its answer, its sources and what it cost.

    Uses the mesh that `agentmesh up` started. Where none runs, it starts one
    for this question and stops it afterwards; documents and sessions stay in
    the data directory.

    With OPENAI_API_KEY, OPENAI_BASE_URL or ANTHROPIC_API_KEY in the environment,
    a mesh that is started here answers with that provider's model, and says what
    it costs.

    Citations name a document by its path as seen from here, with its lines.
    With `-` the question is read from stdin.

    Where the agent waits for an approval or asks something, it can be answered
    in the terminal at once. Without a terminal the command that answers is
    shown and the exit code is 3: the task keeps waiting, and goes on when it is
    answered.
    """
    question = checked_text(text)
    found = document_files.find(paths, base=Path.cwd())
    if found.skipped:
        invocation.terminal.progress(document_files.skipped_line(found.skipped))

    # Nothing above needs the mesh; what follows loads what talks to it.
    from agentmesh.coordinator.v1.coordinator_service_pb2 import RunTaskRequest
    from cli import async_run

    request = RunTaskRequest(parent=invocation.parent, request_id=f"ask-{uuid.uuid4()}")
    request.task.input.text = question
    request.task.agent = agent
    request.task.task_type = task_type
    request.task.session = session
    request.task.lane = LANES[lane]
    task = async_run.run(_ask(invocation, request, found))

    from cli import answer
    from cli.task_state import WAITING, good

    if task.state == WAITING:
        raise click.exceptions.Exit(_WAITING_EXIT)
    if not good(task):
        invocation.terminal.fail(answer.failure(task))
        raise click.exceptions.Exit(1)


async def _ask(invocation: Invocation, request: "RunTaskRequest", found: "Found") -> "Task":
    from cli import answer
    from cli.gateway import connect
    from cli.mesh_access import running_or_embedded

    async with running_or_embedded(invocation) as mesh:
        async with connect(mesh.address, tenant=invocation.tenant) as gateway:
            began = time.monotonic()
            models = await _tell_of_key(gateway, invocation)
            stored: Sequence[UpsertedDocument] = ()
            if found.documents:
                stored = await _store(gateway, invocation, found)
            asked = time.monotonic()
            task, events = await _run(gateway, request, invocation, embedded=mesh.embedded)
            done = time.monotonic()
        timing = answer.Timing(
            mesh_ready=mesh.ready_seconds,
            documents=asked - began if found.documents else 0.0,
            run=done - asked,
            total=done - invocation.started,
        )
        _print(invocation, task, events, timing, stored, models, embedded=mesh.embedded)
    return task


async def _tell_of_key(gateway: "Gateway", invocation: Invocation) -> "Sequence[Model]":
    """Says which model a key in the environment means, before it costs anything.

    The models of the mesh, where there is such a key.
    """
    from agentmesh.reasoning.v1.reasoning_service_pb2 import ListModelsRequest
    from cli.gateway import CALL_SECONDS

    key = model_keys.find(os.environ)
    if key is None:
        return ()
    listed = await gateway.reasoning.ListModels(ListModelsRequest(), timeout=CALL_SECONDS)
    invocation.terminal.progress(key.notice(listed.models))
    return listed.models


async def _store(
    gateway: "Gateway", invocation: Invocation, found: "Found"
) -> "list[UpsertedDocument]":
    from cli import document_upload

    def tell(result: "UpsertedDocument") -> None:
        if not document_upload.unchanged(result):
            invocation.terminal.progress(document_upload.result_line(result))

    stored = await document_upload.upload_and_tell(
        gateway, invocation.parent, found.documents, terminal=invocation.terminal, tell=tell
    )
    invocation.terminal.progress(document_upload.summary(stored))
    document_upload.require_stored(stored)
    return stored


async def _run(
    gateway: "Gateway", request: "RunTaskRequest", invocation: Invocation, *, embedded: bool
) -> "tuple[Task, list[TaskEvent]]":
    """The task when it has ended, or as it waits for a person who is not here."""
    import asyncio

    from agentmesh.coordinator.v1.coordinator_service_pb2 import GetTaskRequest
    from agentmesh.coordinator.v1.task_pb2 import Task
    from cli import follow, waiting
    from cli.gateway import CALL_SECONDS

    task = Task()
    events: list[TaskEvent] = []
    async with aclosing(follow.run(gateway, request)) as updates:
        try:
            while (update := await _next(updates, events, invocation)) is not None:
                if isinstance(update, Task):
                    task = update
                elif not await _answered(gateway, invocation, update):
                    found = await gateway.coordinator.GetTask(
                        GetTaskRequest(name=task.name), timeout=CALL_SECONDS
                    )
                    return found.task, events
        except asyncio.CancelledError:
            if task.name:
                waiting.say_it_goes_on(invocation, task.name, embedded=embedded)
            raise
    return task, events


async def _next(
    updates: "AsyncGenerator[Update]", events: "list[TaskEvent]", invocation: Invocation
) -> "Task | TaskEvent | None":
    """Shows what happens until the task itself comes, or the event that it waits for a person."""
    from agentmesh.coordinator.v1.coordinator_service_pb2 import TextDelta
    from agentmesh.coordinator.v1.task_pb2 import Task
    from cli import waiting
    from cli.run_view import run_view

    with run_view(invocation.terminal) as view:
        async for update in updates:
            if isinstance(update, Task):
                return update
            if isinstance(update, TextDelta):
                view.delta(update)
                continue
            events.append(update)
            view.event(update)
            if waiting.for_person(update.waiting.wait):
                return update
    return None


async def _answered(gateway: "Gateway", invocation: Invocation, event: "TaskEvent") -> bool:
    """Whether the task goes on: the person at the terminal, or another, has answered it."""
    from cli import person, signal_calls
    from meshkit.errors import TaskStateError

    if not invocation.terminal.interactive:
        return False
    signal = await person.ask(invocation.terminal, event.waiting.wait)
    if signal is None:
        return False
    try:
        await signal_calls.send(gateway, event.task, signal, last_sequence=event.sequence)
    except TaskStateError:
        invocation.terminal.warn("It was answered meanwhile, by somebody else or by its end.")
    return True


def _print(
    invocation: Invocation,
    task: "Task",
    events: "Sequence[TaskEvent]",
    timing: "Timing",
    stored: "Sequence[UpsertedDocument]",
    models: "Sequence[Model]",
    *,
    embedded: bool,
) -> None:
    from cli import answer
    from cli.plain import to_plain
    from cli.task_state import WAITING

    key = model_keys.find(os.environ)
    if task.state == WAITING:
        _say_how_to_answer(invocation, task, embedded=embedded)
    if invocation.terminal.as_json:
        document: dict[str, Any] = answer.document(task, events, timing)
        document["documents"] = [to_plain(each) for each in stored]
        document["provider_key"] = key.document(models) if key else None
        invocation.terminal.document(document)
        return
    if task.state == WAITING:
        return
    answer.show(invocation.terminal, task, events, timing)


def _say_how_to_answer(invocation: Invocation, task: "Task", *, embedded: bool) -> None:
    from cli import waiting
    from cli.event_line import wait_text

    terminal = invocation.terminal
    terminal.warn(f"The task waits {wait_text(task.wait)}")
    terminal.warn("It goes on when it is answered:")
    for line in [
        *([invocation.command("up", "--detach")] if embedded else []),
        *waiting.answers(invocation, task),
        invocation.command("task", "watch", task.name.rpartition("/")[2]),
    ]:
        terminal.warn(f"  {line}")
