"""Dead letters: listed, shown, put back and discarded."""

import json
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.common.v1.tier_pb2 import Lane
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli.command_mesh import Commands, commands_for
from meshkit.errors import (
    DeadLetterNotFound,
    DependencyUnavailable,
    ProviderFailed,
    TaskNotFound,
    TaskStateError,
    to_status,
)

_TASKS = "tenants/default/tasks"


class _Coordinator(CoordinatorServiceServicer):
    """Dead letters a to e, of which somebody else put d back; and a task that is none."""

    def __init__(self) -> None:
        self.dead = dict.fromkeys("abcde")
        self.lists: list[pb.ListDeadLettersRequest] = []
        self.redrives: list[pb.RedriveDeadLettersRequest] = []
        self.put_back: list[str] = []
        self.discarded: list[pb.DiscardDeadLetterRequest] = []
        self.breaks_after: int | None = None

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        name = request.name.rpartition("/")[2]
        if name == "alive":
            return pb.GetTaskResponse(
                task=Task(name=request.name, state=TaskState.TASK_STATE_RUNNING)
            )
        if name not in self.dead:
            raise TaskNotFound(f"There is no task {request.name}.")
        return pb.GetTaskResponse(task=self._task(name))

    def _task(self, name: str) -> Task:
        task = Task(
            name=f"{_TASKS}/{name}",
            state=TaskState.TASK_STATE_DEAD_LETTERED,
            agent="tenants/default/agents/assistant@1",
            lane=Lane.LANE_BATCH,
            attempt=5,
            error=to_status(ProviderFailed("The model hung up.")),
        )
        task.input.text = "hello"
        task.end_time.FromJsonString("2026-01-31T12:00:00Z")
        return task

    async def ListTaskEvents(
        self, request: pb.ListTaskEventsRequest, context: Any
    ) -> pb.ListTaskEventsResponse:
        name = request.name.rpartition("/")[2]
        events: list[TaskEvent] = []
        for sequence in range(1, 41 if name == "b" else 4):
            event = TaskEvent(task=request.name, sequence=sequence)
            event.retried.error.message = f"failure {sequence}"
            events.append(event)
        return pb.ListTaskEventsResponse(events=events)

    async def ListDeadLetters(
        self, request: pb.ListDeadLettersRequest, context: Any
    ) -> pb.ListDeadLettersResponse:
        self.lists.append(request)
        letters = [
            pb.DeadLetter(task=self._task(name), reason="PROVIDER_FAILED") for name in self.dead
        ]
        return pb.ListDeadLettersResponse(dead_letters=letters[: request.page_size])

    async def RedriveDeadLetter(
        self, request: pb.RedriveDeadLetterRequest, context: Any
    ) -> pb.RedriveDeadLetterResponse:
        name = request.name.rpartition("/")[2]
        if name not in self.dead:
            raise DeadLetterNotFound(f"There is no dead letter {request.name}.")
        self.put_back.append(name)
        return pb.RedriveDeadLetterResponse(task=Task(name=request.name))

    async def RedriveDeadLetters(
        self, request: pb.RedriveDeadLettersRequest, context: Any
    ) -> AsyncIterator[pb.RedriveDeadLettersResponse]:
        self.redrives.append(request)
        redriven = 0
        for name in [name for name in self.dead if name not in self.put_back]:
            if redriven == (request.limit or 100):
                return
            if self.breaks_after == len(self.put_back):
                self.breaks_after = None
                raise DependencyUnavailable("NATS is away.")
            answer = pb.RedriveDeadLettersResponse(task=f"{_TASKS}/{name}")
            self.put_back.append(name)
            if name == "d":
                answer.error.CopyFrom(to_status(TaskStateError("It is QUEUED.")))
            else:
                redriven += 1
            answer.redriven = redriven
            yield answer

    async def DiscardDeadLetter(
        self, request: pb.DiscardDeadLetterRequest, context: Any
    ) -> pb.DiscardDeadLetterResponse:
        self.discarded.append(request)
        return pb.DiscardDeadLetterResponse()


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def commands(coordinator: _Coordinator) -> AsyncIterator[Commands]:
    async with commands_for(CoordinatorService=coordinator) as commands:
        yield commands


async def test_dead_letters_are_listed_with_why_they_failed(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The filters are the mesh's to apply; each line has the reason and the error."""
    result = await commands.run(
        "dlq", "list", "--lane", "batch", "--reason", "X", "--min-age", "1d", "--limit", "2"
    )
    header, *lines = result.stdout.splitlines()
    assert header.split() == ["TASK", "LANE", "AGE", "ATTEMPTS", "REASON", "ERROR"]
    assert [line.split()[0] for line in lines] == ["a", "b"]
    assert lines[0].endswith("5  PROVIDER_FAILED  The model hung up.")
    (asked,) = coordinator.lists
    assert (asked.lane, asked.reason, asked.min_age.seconds) == (Lane.LANE_BATCH, "X", 86400)


async def test_a_dead_letter_shows_its_history_and_what_can_be_done(commands: Commands) -> None:
    """Error, reason and events; then the command lines that put it back or discard it."""
    shown = (await commands.run("dlq", "show", "a")).stdout
    assert "Error     The model hung up." in shown
    assert "Reason    PROVIDER_FAILED" in shown
    assert [line.split()[-2:] for line in shown.splitlines() if "failure" in line] == [
        ["failure", "1"],
        ["failure", "2"],
        ["failure", "3"],
    ]
    assert f"Put it back  agentmesh dlq redrive a --gateway {commands.gateway}" in shown


async def test_a_long_history_shows_its_ends(commands: Commands) -> None:
    """How it began and how it failed are shown; what is between is counted."""
    shown = (await commands.run("dlq", "show", "b")).stdout
    numbers = [int(line.split()[-1]) for line in shown.splitlines() if "failure" in line]
    assert numbers == [1, 2, 3, *range(16, 41)]
    assert "… 12 events more, see `agentmesh task events b" in shown


async def test_a_task_that_is_no_dead_letter_is_not_shown_as_one(commands: Commands) -> None:
    """The error says where the task stands."""
    result = await commands.run("dlq", "show", "alive")
    assert result.exit_code == 1
    assert result.stderr.startswith(f"error: {_TASKS}/alive is RUNNING, and no dead letter.")


async def test_named_ones_are_put_back_one_after_another(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """One that is none does not stop the others, and shows in the exit code."""
    result = await commands.run("dlq", "redrive", "a", "gone", "b")
    assert result.exit_code == 1
    assert coordinator.put_back == ["a", "b"]
    assert result.stdout.splitlines() == [
        f"{_TASKS}/a was put back.",
        f"{_TASKS}/gone was not put back: There is no dead letter {_TASKS}/gone."
        " (DEAD_LETTER_NOT_FOUND) See `agentmesh dlq list` for the dead letters there are.",
        f"{_TASKS}/b was put back.",
    ]
    assert result.stderr == "2 dead letters put back, 1 not.\n"


async def test_all_are_put_back_at_a_rate(commands: Commands, coordinator: _Coordinator) -> None:
    """Without a terminal nobody is asked; each is told of as it happens."""
    result = await commands.run(
        "dlq", "redrive", "--all", "--reason", "X", "--rate", "50", "--comment", "again", "--json"
    )
    assert result.exit_code == 1
    lines = [json.loads(line) for line in result.stdout.splitlines()]
    assert [line["task"].rpartition("/")[2] for line in lines] == list("abcde")
    assert [line.get("error", {}).get("reason") for line in lines] == [
        None, None, None, "TASK_STATE", None,
    ]  # fmt: skip
    (asked,) = coordinator.redrives
    assert (asked.reason, asked.max_per_second, asked.comment) == ("X", 50, "again")


async def test_a_broken_redrive_goes_on_within_its_limit(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """What was put back before the break counts."""
    coordinator.breaks_after = 2
    result = await commands.run("dlq", "redrive", "--all", "--limit", "3", "--yes")
    assert result.exit_code == 0
    assert coordinator.put_back == ["a", "b", "c"]
    assert [each.limit for each in coordinator.redrives] == [3, 1]


async def test_discarding_sends_the_remark(commands: Commands, coordinator: _Coordinator) -> None:
    """Each is discarded with the operator's words."""
    result = await commands.run("dlq", "discard", "a", "b", "--comment", "asked twice")
    assert result.exit_code == 0
    assert [(each.name, each.comment) for each in coordinator.discarded] == [
        (f"{_TASKS}/a", "asked twice"),
        (f"{_TASKS}/b", "asked twice"),
    ]


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["redrive"], "Name tasks, or give --all."),
        (["redrive", "a", "--all"], "Name tasks, or give --all."),
        (["redrive", "a", "--rate", "5"], "go with --all."),
        (["redrive", "--all", "--rate", "0"], "0 is not in the range 1<=x<=1000."),
        (["list", "--min-age", "old"], "'old' is no duration over zero"),
        (["discard"], "Missing argument 'TASK...'."),
    ],
)
async def test_wrong_usage_is_told(
    commands: Commands, coordinator: _Coordinator, arguments: list[str], message: str
) -> None:
    """What cannot be meant is refused, and nothing is put back."""
    result = await commands.run("dlq", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
    assert coordinator.put_back == []
