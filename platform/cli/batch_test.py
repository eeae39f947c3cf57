"""Submitting a file of tasks: every line once, whatever breaks."""

import json
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any

import pytest

from agentmesh.common.v1.tier_pb2 import Lane
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceServicer
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.command_mesh import Commands, commands_for
from meshkit.errors import (
    DependencyUnavailable,
    InvalidField,
    MeshError,
    QueueFull,
    RateLimited,
    to_status,
)


class _Coordinator(CoordinatorServiceServicer):
    """Refuses what the texts of tasks say; every request_id is one task."""

    def __init__(self) -> None:
        self.accepted: dict[str, pb.SubmitTaskRequest] = {}
        # The texts in each call, in order.
        self.calls: list[list[str]] = []
        self.breaks = 0
        self.too_fast = 1

    async def BatchSubmitTasks(
        self, request: pb.BatchSubmitTasksRequest, context: Any
    ) -> AsyncIterator[pb.BatchSubmitTasksResponse]:
        self.calls.append([each.request.task.input.text for each in request.items])
        assert len({each.context.index for each in request.items}) == len(request.items)
        for number, item in enumerate(request.items):
            if self.breaks and number == 1:
                self.breaks -= 1
                raise DependencyUnavailable("NATS is away.")
            yield pb.BatchSubmitTasksResponse(results=[self._result(item)])

    def _result(self, item: pb.BatchSubmitTasksItem) -> pb.BatchSubmitTasksResult:
        assert item.context.timeout.seconds > 0
        assert item.context.tenant == "default"
        error = self._refused(item.request)
        if error is not None:
            return pb.BatchSubmitTasksResult(index=item.context.index, error=to_status(error))
        self.accepted.setdefault(item.request.request_id, item.request)
        name = f"tenants/default/tasks/{item.request.request_id}"
        return pb.BatchSubmitTasksResult(
            index=item.context.index,
            response=pb.SubmitTaskResponse(task=Task(name=name)),
        )

    def _refused(self, request: pb.SubmitTaskRequest) -> MeshError | None:
        match request.task.input.text:
            case "bad":
                return InvalidField("task.input.text", "is bad")
            case "full":
                return QueueFull("The queue is full.", retry_after_seconds=9)
            case "fast" if self.too_fast:
                self.too_fast -= 1
                return RateLimited("Too fast.", retry_after_seconds=0.01)
            case _:
                return None


@pytest.fixture
async def coordinator() -> _Coordinator:
    servicer: Any = _Coordinator  # the RPCs that it lacks answer UNIMPLEMENTED
    return servicer()


@pytest.fixture
async def commands(coordinator: _Coordinator) -> AsyncIterator[Commands]:
    async with commands_for(CoordinatorService=coordinator) as commands:
        yield commands


def _file(folder: Path, *lines: Any) -> str:
    path = folder / "tasks.jsonl"
    path.write_text(
        "\n".join(each if isinstance(each, str) else json.dumps(each) for each in lines)
    )
    return str(path)


async def test_each_line_is_a_task_with_the_options_as_defaults(
    commands: Commands, coordinator: _Coordinator, tmp_path: Path
) -> None:
    """A line says what is its own; what it leaves open the options say; ids follow its number."""
    file = _file(
        tmp_path,
        {"text": "one"},
        "",
        {"text": "two", "lane": "batch", "priority": 7, "request_id": "mine", "labels": {"a": "b"}},
        {"data": {"n": 1}, "time_limit": "30s", "task_type": "imports"},
    )
    result = await commands.run(
        "task", "submit", "--batch", file, "--request-id", "import", "--lane", "interactive",
        "--task-type", "reports",
    )  # fmt: skip
    assert result.exit_code == 0
    assert result.stdout.splitlines() == [
        "     1  tenants/default/tasks/import-1",
        "     3  tenants/default/tasks/mine",
        "     4  tenants/default/tasks/import-4",
    ]
    assert result.stderr == "3 tasks accepted, 0 refused.\n"
    one, two, four = coordinator.accepted.values()
    assert (one.parent, one.task.lane) == ("tenants/default", Lane.LANE_INTERACTIVE)
    assert (two.task.lane, two.task.priority, two.task.labels["a"]) == (Lane.LANE_BATCH, 7, "b")
    assert four.task.input.data["n"] == 1
    assert four.task.time_limit.seconds == 30
    assert [each.task.task_type for each in (one, two, four)] == ["reports", "reports", "imports"]


async def test_a_refused_line_is_told_and_the_others_go_on(
    commands: Commands, tmp_path: Path
) -> None:
    """The exit code says that one was refused; every line has its result."""
    file = _file(tmp_path, {"text": "bad"}, {"text": "good"}, {"text": "full"})
    result = await commands.run("task", "submit", "--batch", file, "--request-id", "i", "--json")
    assert result.exit_code == 1
    lines = {line["line"]: line for line in map(json.loads, result.stdout.splitlines())}
    assert lines[2]["task"]["name"] == "tenants/default/tasks/i-2"
    assert lines[1]["error"]["reason"] == "INVALID_FIELD"
    assert lines[3]["error"]["reason"] == "QUEUE_FULL"
    plain = await commands.run("task", "submit", "--batch", file, "--request-id", "i")
    assert "     1  refused: task.input.text: is bad. (INVALID_FIELD)" in plain.stdout
    assert plain.stderr == "1 task accepted, 2 refused.\n"


async def test_what_breaks_or_comes_too_fast_is_submitted_again(
    commands: Commands, coordinator: _Coordinator, tmp_path: Path
) -> None:
    """A stream that breaks goes on with what is not answered; each task is accepted once."""
    coordinator.breaks = 1
    file = _file(tmp_path, {"text": "one"}, {"text": "two"}, {"text": "fast"})
    result = await commands.run("task", "submit", "--batch", file)
    assert (result.exit_code, result.stderr) == (0, "3 tasks accepted, 0 refused.\n")
    assert coordinator.calls == [["one", "two", "fast"], ["two", "fast"], ["fast"]]
    assert len(coordinator.accepted) == 3


async def test_a_long_file_goes_in_portions(
    commands: Commands, coordinator: _Coordinator, tmp_path: Path
) -> None:
    """No call has over a thousand tasks, or two mebibytes."""
    file = _file(tmp_path, *({"text": f"{n}"} for n in range(1001)), {"text": "x" * 1_000_000},
                 {"text": "y" * 1_000_000}, {"text": "z" * 1_000_000})  # fmt: skip
    result = await commands.run("task", "submit", "--batch", file)
    assert result.exit_code == 0
    assert [len(call) for call in coordinator.calls] == [1000, 3, 1]


async def test_tasks_can_come_on_stdin(commands: Commands, coordinator: _Coordinator) -> None:
    """What another program writes is submitted."""
    result = await commands.run("task", "submit", "--batch", "-", stdin='{"text": "one"}\n')
    assert result.exit_code == 0
    assert coordinator.calls == [["one"]]


@pytest.mark.parametrize(
    ("line", "error"),
    [
        ("{", "is not JSON: Expecting property name enclosed in double quotes"),
        ("[1]", "is no JSON object"),
        ("{}", "has neither text nor data"),
        ('{"text": "x", "input": {}}', "has both input and text or data"),
        ('{"text": "x", "request_id": 1}', "request_id must be text"),
        ('{"text": "x", "colour": "blue"}', '"agentmesh.coordinator.v1.Task" has no field named'),
        ('{"text": "x", "priority": "high"}', "Failed to parse priority field"),
        ('{"text": "x", "lane": "fast"}', "Failed to parse lane field"),
    ],
)
async def test_a_line_that_is_no_task_stops_it_all(
    commands: Commands, coordinator: _Coordinator, tmp_path: Path, line: str, error: str
) -> None:
    """The file and line are named, and nothing was submitted."""
    file = _file(tmp_path, {"text": "good"}, line)
    result = await commands.run("task", "submit", "--batch", file)
    assert (result.exit_code, result.stdout) == (1, "")
    assert result.stderr.startswith(f"error: {file}:2: ")
    assert error in result.stderr
    assert coordinator.calls == []


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (["submit"], "Give TEXT or --batch, one of them."),
        (["submit", "x", "--batch", "y"], "Give TEXT or --batch, one of them."),
        (["submit", "--batch", "y", "--wait"], "--wait does not go with --batch."),
        (
            ["submit", "x", "--budget", "1", "--budget-micros", "2"],
            "--budget and --budget-micros are the same: give one.",
        ),
        (["submit", "x", "--budget", "0"], "'0' is no amount of dollars over zero"),
        (["submit", "x", "--priority", "-1"], "-1 is not in the range 0<=x<=9."),
    ],
)
async def test_wrong_usage_is_told(commands: Commands, arguments: list[str], message: str) -> None:
    """What cannot be meant is refused before anything is sent."""
    result = await commands.run("task", *arguments)
    assert result.exit_code == 2
    assert message in result.stderr
