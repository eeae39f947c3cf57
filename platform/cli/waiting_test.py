"""Tasks that wait: what is shown of them, and how they are answered."""

import json
import re
from collections.abc import AsyncIterator
from typing import Any

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskState
from cli.command_mesh import Commands, commands_for
from meshkit.errors import TaskNotFound, TaskStateError

_TASKS = "tenants/default/tasks"


def _task(name: str, state: TaskState = TaskState.TASK_STATE_WAITING) -> Task:
    task = Task(name=f"{_TASKS}/{name}", state=state, last_sequence=3, agent="x/clerk@1")
    task.input.text = f"the request of {name}"
    task.wait.call_id = "c1"
    task.wait.expire_time.FromJsonString("2999-01-01T00:00:00Z")
    return task


class _Coordinator(CoordinatorServiceServicer):
    """Three tasks that wait, and the children of one of them."""

    def __init__(self) -> None:
        payment, question, parent = _task("payment"), _task("question"), _task("parent")
        payment.wait.approval.call.tool = "pay"
        payment.wait.approval.call.arguments.update({"amount": 5})
        payment.wait.approval.why = "The tool requires approval."
        question.wait.input.question = "Which colour?"
        parent.wait.children.tasks.extend([f"{_TASKS}/done", f"{_TASKS}/unborn"])
        done = _task("done", TaskState.TASK_STATE_SUCCEEDED)
        done.ClearField("wait")
        self.tasks = {each.name: each for each in (payment, question, parent, done)}
        self.signals: list[pb.SignalTaskRequest] = []

    async def GetTask(self, request: pb.GetTaskRequest, context: Any) -> pb.GetTaskResponse:
        if request.name not in self.tasks:
            raise TaskNotFound(f"There is no task {request.name}.")
        return pb.GetTaskResponse(task=self.tasks[request.name])

    async def ListTasks(self, request: pb.ListTasksRequest, context: Any) -> pb.ListTasksResponse:
        listed = [
            Task(name=each.name, state=each.state)
            for each in self.tasks.values()
            if not request.states or each.state in request.states
        ]
        return pb.ListTasksResponse(tasks=listed)

    async def SignalTask(
        self, request: pb.SignalTaskRequest, context: Any
    ) -> pb.SignalTaskResponse:
        self.signals.append(request)
        task = self.tasks[request.name]
        if task.state != TaskState.TASK_STATE_WAITING:
            raise TaskStateError(f"{request.name} is SUCCEEDED and waits for nothing.")
        task.state = TaskState.TASK_STATE_QUEUED
        return pb.SignalTaskResponse(task=task)

    async def WatchTask(
        self, request: pb.WatchTaskRequest, context: Any
    ) -> AsyncIterator[pb.WatchTaskResponse]:
        task = self.tasks[request.name]
        event = TaskEvent(task=task.name, sequence=task.last_sequence)
        event.status.state = task.state
        event.waiting.wait.CopyFrom(task.wait)
        yield pb.WatchTaskResponse(event=event)
        end = TaskEvent(task=task.name, sequence=task.last_sequence + 1)
        end.status.state = TaskState.TASK_STATE_CANCELLED
        end.cancelled.reason = "the test is over"
        yield pb.WatchTaskResponse(event=end)


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def commands(coordinator: _Coordinator) -> AsyncIterator[Commands]:
    async with commands_for(CoordinatorService=coordinator) as commands:
        yield commands


def _value(text: str, name: str) -> str:
    """The value of a field, with the lines that go on below it."""
    lines = text.splitlines()
    start = next(index for index, line in enumerate(lines) if line.startswith(f"{name} "))
    taken = [lines[start].removeprefix(name).strip()]
    for line in lines[start + 1 :]:
        if not line.startswith(" "):
            break
        taken.append(line.strip())
    return "\n".join(taken)


async def test_a_task_that_waits_for_approval_shows_the_call_and_the_answers(
    commands: Commands,
) -> None:
    """The tool with its arguments, until when, and the command lines for yes and no to that."""
    mesh = f"--gateway {commands.gateway}"
    shown = (await commands.run("task", "get", "payment")).stdout
    assert _value(shown, "Waits") == "for approval of pay(amount=5) (The tool requires approval.)"
    assert _value(shown, "Until").endswith(", then it counts as rejected")
    assert _value(shown, "Answer") == (
        f"agentmesh task signal payment --approve --last-sequence 3 {mesh}\n"
        f"agentmesh task signal payment --reject REASON --last-sequence 3 {mesh}"
    )


async def test_a_task_that_asks_shows_the_question_and_how_to_answer(commands: Commands) -> None:
    """The command line names the mesh that it was asked with."""
    shown = (await commands.run("task", "get", "question", "--tenant", "default")).stdout
    assert _value(shown, "Waits") == "for an answer: Which colour?"
    assert _value(shown, "Answer") == (
        "agentmesh task signal question --input TEXT --last-sequence 3"
        f" --gateway {commands.gateway} --tenant default"
    )


async def test_a_parent_shows_its_children(commands: Commands) -> None:
    """Each child with its state; one that is not there yet is told as such."""
    shown = (await commands.run("task", "get", "parent")).stdout
    assert _value(shown, "Waits") == "for 2 child tasks"
    assert shown.splitlines()[-3:] == [
        "CHILD   STATE          INPUT",
        "done    SUCCEEDED      the request of done",
        "unborn  not there yet",
    ]
    document = json.loads((await commands.run("task", "get", "parent", "--json")).stdout)
    assert [each["state"] for each in document["children"]] == [
        "TASK_STATE_SUCCEEDED",
        "TASK_STATE_UNSPECIFIED",
    ]


async def test_waiting_tasks_are_listed_with_what_they_wait_for(commands: Commands) -> None:
    """The list says of each what is missing."""
    lines = (await commands.run("task", "list", "--waiting")).stdout.splitlines()
    assert lines[0].split() == ["TASK", "AGENT", "CREATED", "UNTIL", "EVENTS", "WAITS"]
    assert [[line.split()[0], *re.split(" {2,}", line)[-2:]] for line in lines[1:]] == [
        ["payment", "3", "for approval of pay(amount=5) (The tool requires approval.)"],
        ["question", "3", "for an answer: Which colour?"],
        ["parent", "3", "for 2 child tasks"],
    ]
    both = await commands.run("task", "list", "--waiting", "--state", "queued")
    assert both.exit_code == 2


async def test_watching_tells_how_to_answer(commands: Commands) -> None:
    """Events go to stdout, the command lines to stderr."""
    mesh = f"--gateway {commands.gateway}"
    watched = await commands.run("task", "watch", "payment")
    assert [line.split()[3] for line in watched.stdout.splitlines()] == ["waiting", "cancelled"]
    assert [line.strip() for line in watched.stderr.splitlines()] == [
        f"answer with  agentmesh task signal payment --approve --last-sequence 3 {mesh}",
        f"answer with  agentmesh task signal payment --reject REASON --last-sequence 3 {mesh}",
    ]
    assert watched.exit_code == 1


async def test_watching_a_parent_tells_of_its_children(commands: Commands) -> None:
    """Each child has a line with its state."""
    watched = await commands.run("task", "watch", "parent")
    assert [line.split()[:3] for line in watched.stderr.splitlines()] == [
        ["child", "done", "SUCCEEDED"],
        ["child", "unborn", "not"],
    ]


async def test_nothing_is_told_of_a_wait_that_is_over(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """Whoever watches a log again is not sent to answer what was answered."""
    coordinator.tasks[f"{_TASKS}/payment"].state = TaskState.TASK_STATE_RUNNING
    assert (await commands.run("task", "watch", "payment")).stderr == ""


def _sent(**kind: Any) -> TaskSignal:
    return TaskSignal(**kind)


@pytest.mark.parametrize(
    ("options", "signal", "said"),
    [
        (["--approve"], _sent(approval=TaskSignal.Approval()), "approved"),
        (
            ["--approve", "--comment", "once"],
            _sent(approval=TaskSignal.Approval(comment="once")),
            "approved",
        ),
        (
            ["--reject", "not today"],
            _sent(rejection=TaskSignal.Rejection(reason="not today")),
            "rejected",
        ),
        (["--input", "blue"], _sent(input={"text": "blue"}), "answered"),
        (
            ["--input", "blue", "--data", '{"n": 1}'],
            _sent(input={"text": "blue", "data": {"n": 1}}),
            "answered",
        ),
    ],
)
async def test_a_signal_is_sent_as_it_was_given(
    commands: Commands, coordinator: _Coordinator, options: list[str], signal: Any, said: str
) -> None:
    """Each kind of answer arrives, and what the task is then is printed."""
    result = await commands.run("task", "signal", "payment", *options, "--request-id", "r1")
    assert (result.exit_code, result.stderr) == (0, "")
    assert result.stdout == f"{_TASKS}/payment is {said}; it is QUEUED.\n"
    assert coordinator.signals == [
        pb.SignalTaskRequest(name=f"{_TASKS}/payment", signal=signal, request_id="r1")
    ]


async def test_a_script_says_what_it_has_seen(
    commands: Commands, coordinator: _Coordinator
) -> None:
    """The command sends the sequence on; one below 0 is wrong usage."""
    shown = json.loads((await commands.run("task", "get", "payment", "--json")).stdout)["task"]
    seen = str(shown["last_sequence"])
    approve = ("task", "signal", "payment", "--approve", "--last-sequence")
    assert (await commands.run(*approve, "-1")).exit_code == 2
    assert (await commands.run(*approve, seen)).exit_code == 0
    assert [each.last_sequence for each in coordinator.signals] == [3]


async def test_input_comes_from_a_file(
    commands: Commands, coordinator: _Coordinator, tmp_path: Any
) -> None:
    """A long answer need not stand in the command line."""
    (tmp_path / "answer.txt").write_text("a long\nanswer")
    result = await commands.run(
        "task", "signal", "question", "--input-file", str(tmp_path / "answer.txt")
    )
    assert result.exit_code == 0
    assert coordinator.signals[0].signal.input.text == "a long\nanswer"
    assert coordinator.signals[0].request_id.startswith("cli-")


async def test_a_signal_to_a_task_that_does_not_wait_is_explained(commands: Commands) -> None:
    """The mesh's word comes with where to look."""
    result = await commands.run("task", "signal", "done", "--approve")
    assert result.exit_code == 1
    assert result.stderr == (
        f"error: {_TASKS}/done is SUCCEEDED and waits for nothing. (TASK_STATE)"
        " See `agentmesh task get TASK` for where it stands.\n"
    )


@pytest.mark.parametrize(
    "options",
    [
        [],
        ["--approve", "--reject", "no"],
        ["--approve", "--input", "x"],
        ["--input", "x", "--input-file", "y"],
        ["--reject", "no", "--comment", "x"],
        ["--data", "[1]"],
        ["--data", "{"],
    ],
)
async def test_a_signal_is_one_thing(commands: Commands, options: list[str]) -> None:
    """What does not go together, or is no JSON object, is wrong usage."""
    assert (await commands.run("task", "signal", "payment", *options)).exit_code == 2
