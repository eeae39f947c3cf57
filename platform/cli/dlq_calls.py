"""The calls of `agentmesh dlq`, and what they print."""

import uuid
from collections.abc import AsyncGenerator, Awaitable, Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import (
    DeadLetter,
    DiscardDeadLetterRequest,
    GetTaskRequest,
    ListDeadLettersRequest,
    ListTaskEventsRequest,
    RedriveDeadLetterRequest,
    RedriveDeadLettersRequest,
    RedriveDeadLettersResponse,
)
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli.dead_letter_view import show_dead_letter, show_dead_letters
from cli.explain import explain
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.problem import Problem
from cli.progress_bar import tell_each
from cli.task_state import state_name
from cli.terminal import Terminal
from cli.wording import plural
from meshkit.errors import (
    DeadlineExceeded,
    DependencyUnavailable,
    MeshError,
    ShuttingDown,
    from_status,
)

_MAX_EVENTS: Final = 1_000_000
# How far dead letters are counted before they are redriven.
_COUNTED: Final = 10_000
_STREAM_SECONDS: Final = 3600.0
# A broken stream that put nothing back is begun again this often.
_BREAKS: Final = 3
_BROKEN: Final = (DependencyUnavailable, DeadlineExceeded, ShuttingDown)


@dataclass(frozen=True, slots=True)
class _Outcome:
    """What became of one dead letter."""

    task: str
    error: MeshError | None


def list_dead_letters(invocation: Invocation, request: ListDeadLettersRequest, limit: int) -> None:
    """Prints the newest dead letters that fit."""

    async def run(gateway: Gateway) -> list[DeadLetter]:
        return await _list(gateway, request, limit)

    letters = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"dead_letters": [to_plain(each) for each in letters]})
    else:
        show_dead_letters(invocation.terminal, letters, datetime.now(UTC))


def show(invocation: Invocation, name: str) -> None:
    """Prints a dead letter and its history; Problem where the task is none."""

    async def run(gateway: Gateway) -> tuple[Task, list[TaskEvent]]:
        found = await gateway.coordinator.GetTask(GetTaskRequest(name=name), timeout=CALL_SECONDS)
        if found.task.state != TaskState.TASK_STATE_DEAD_LETTERED:
            state = state_name(found.task.state)
            raise Problem(
                f"{name} is {state}, and no dead letter.",
                f"See `{invocation.command('task', 'get', name.rpartition('/')[2])}`.",
            )
        events = await collect(
            gateway.coordinator.ListTaskEvents,
            ListTaskEventsRequest(name=name),
            lambda page: page.events,
            limit=_MAX_EVENTS,
        )
        return found.task, events

    task, events = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document(
            {"task": to_plain(task), "events": [to_plain(each) for each in events]}
        )
    else:
        show_dead_letter(invocation, task, events)


def redrive(invocation: Invocation, names: Sequence[str], comment: str) -> bool:
    """Puts the named ones back and prints what became of each. False if one could not be."""

    async def one(gateway: Gateway, name: str) -> None:
        request = RedriveDeadLetterRequest(
            name=name, comment=comment, request_id=f"cli-{uuid.uuid4()}"
        )
        await gateway.coordinator.RedriveDeadLetter(request, timeout=CALL_SECONDS)

    return _each(invocation, names, one, done="put back", what="Putting back")


def discard(invocation: Invocation, names: Sequence[str], comment: str) -> bool:
    """Discards the named ones and prints what became of each. False if one could not be."""

    async def one(gateway: Gateway, name: str) -> None:
        request = DiscardDeadLetterRequest(
            name=name, comment=comment, request_id=f"cli-{uuid.uuid4()}"
        )
        await gateway.coordinator.DiscardDeadLetter(request, timeout=CALL_SECONDS)

    return _each(invocation, names, one, done="discarded", what="Discarding")


def redrive_all(invocation: Invocation, request: RedriveDeadLettersRequest, *, ask: bool) -> bool:
    """Puts all that match back and prints each. False if one could not be, or the person says no.

    With `ask` a person at the terminal is asked first.
    """
    terminal = invocation.terminal

    async def count(gateway: Gateway) -> int:
        listed = ListDeadLettersRequest(
            parent=request.parent, lane=request.lane, reason=request.reason
        )
        if request.HasField("min_age"):
            listed.min_age.CopyFrom(request.min_age)
        return len(await _list(gateway, listed, request.limit or _COUNTED))

    async def run(gateway: Gateway) -> list[_Outcome]:
        return await tell_each(
            terminal,
            _redriven(gateway, request),
            lambda outcome: _tell(terminal, outcome, "put back"),
            what="Putting back",
            total=found,
        )

    found: int | None = None
    if ask and terminal.interactive:
        found = call(address_of(invocation), invocation.tenant, count)
        more = "or more " if found == _COUNTED else ""
        if not found:
            terminal.say("There are no such dead letters.")
            return True
        if not terminal.confirm(f"Put {more}{plural(found, 'dead letter')} back?"):
            return False
    return _sum_up(terminal, call(address_of(invocation), invocation.tenant, run), "put back")


async def _redriven(
    gateway: Gateway, request: RedriveDeadLettersRequest
) -> AsyncGenerator[_Outcome]:
    """Begins again where the stream breaks: what was put back is no dead letter any more."""
    wanted = request.limit
    redriven = breaks = 0
    while True:
        try:
            async for each in gateway.coordinator.RedriveDeadLetters(
                request, timeout=_STREAM_SECONDS
            ):
                answer: RedriveDeadLettersResponse = each
                failed = answer.HasField("error")
                redriven += not failed
                breaks = 0
                yield _Outcome(answer.task, from_status(answer.error) if failed else None)
            return
        except _BROKEN:
            breaks += 1
            if breaks > _BREAKS:
                raise
        if wanted:
            if redriven >= wanted:
                return
            request.limit = wanted - redriven


async def _list(gateway: Gateway, request: ListDeadLettersRequest, limit: int) -> list[DeadLetter]:
    return await collect(
        gateway.coordinator.ListDeadLetters,
        request,
        lambda page: page.dead_letters,
        limit=limit,
    )


def _each(
    invocation: Invocation,
    names: Sequence[str],
    one: Callable[[Gateway, str], Awaitable[None]],
    *,
    done: str,
    what: str,
) -> bool:
    terminal = invocation.terminal

    async def outcomes(gateway: Gateway) -> AsyncGenerator[_Outcome]:
        for name in names:
            try:
                await one(gateway, name)
            except _BROKEN:
                raise
            except MeshError as error:
                yield _Outcome(name, error)
            else:
                yield _Outcome(name, None)

    async def run(gateway: Gateway) -> list[_Outcome]:
        return await tell_each(
            terminal,
            outcomes(gateway),
            lambda outcome: _tell(terminal, outcome, done),
            what=what,
            total=len(names),
        )

    return _sum_up(terminal, call(address_of(invocation), invocation.tenant, run), done)


def _tell(terminal: Terminal, outcome: _Outcome, done: str) -> None:
    report = explain(outcome.error) if outcome.error else None
    if terminal.as_json:
        value: dict[str, Any] = {"task": outcome.task}
        terminal.line({**value, **report.document()} if report else value)
    elif report:
        terminal.say(f"{outcome.task} was not {done}: {report.line()}", style="red")
    else:
        terminal.say(f"{outcome.task} was {done}.")


def _sum_up(terminal: Terminal, outcomes: Sequence[_Outcome], done: str) -> bool:
    failed = sum(outcome.error is not None for outcome in outcomes)
    line = f"{plural(len(outcomes) - failed, 'dead letter')} {done}"
    terminal.progress(f"{line}, {failed:,} not." if failed else f"{line}.")
    return not failed
