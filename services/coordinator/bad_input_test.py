"""What a submission that cannot be meant is told, word for word."""

import pytest
from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit.errors import InvalidField
from services.coordinator.coordinator_mesh import PARENT, Mesh
from tasklog.partitions import WHOLE

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]

_INPUT = TaskInput(text="x")
_TIME_LIMIT = "task.time_limit: must be over 0 s and at most 86400 s"
_LABEL_KEY = "must be 1 to 63 letters, digits or any of . _ / -"


@pytest.mark.parametrize(
    ("task", "message"),
    [
        (Task(), "task.input: must have text or data: say what the agent should do"),
        (
            Task(input=TaskInput(text="a\x00b")),
            "task.input.text: must not contain NUL characters",
        ),
        (Task(input=_INPUT, time_limit=Duration()), _TIME_LIMIT),
        (Task(input=_INPUT, time_limit=Duration(seconds=-1)), _TIME_LIMIT),
        (Task(input=_INPUT, time_limit=Duration(nanos=-1)), _TIME_LIMIT),
        (Task(input=_INPUT, time_limit=Duration(nanos=999)), _TIME_LIMIT),
        (Task(input=_INPUT, time_limit=Duration(seconds=86_400, nanos=1)), _TIME_LIMIT),
        (Task(input=_INPUT, time_limit=Duration(seconds=-(1 << 63))), _TIME_LIMIT),
        (Task(input=_INPUT, priority=-1), "task.priority: must be from 0 to 9"),
        (Task(input=_INPUT, priority=10), "task.priority: must be from 0 to 9"),
        (
            Task(input=_INPUT, lane=9),  # type: ignore[arg-type]
            "task.lane: must be LANE_INTERACTIVE, LANE_STANDARD or LANE_BATCH",
        ),
        (Task(input=_INPUT, budget_micros=-1), "task.budget_micros: must not be negative"),
        (
            Task(input=_INPUT, labels={f"key-{n}": "value" for n in range(10_000)}),
            "task.labels: must be at most 64, not 10000",
        ),
        (Task(input=_INPUT, labels={"": "value"}), f"task.labels['']: {_LABEL_KEY}"),
        (
            Task(input=_INPUT, labels={"k" * 10_000: "value"}),
            f"task.labels[{'k' * 80!r}]: {_LABEL_KEY}",
        ),
        (
            Task(input=_INPUT, labels={"key": "v" * 256}),
            "task.labels['key']: must be at most 255 characters",
        ),
        (
            Task(input=_INPUT, session="a b"),
            "task.session: must be 1 to 128 letters, digits or any of _ ~ : -, no sign first",
        ),
        (
            Task(input=_INPUT, task_type="a b"),
            "task.task_type: must be 1 to 63 letters, digits or any of - _ .",
        ),
        (
            Task(input=_INPUT, agent="a b"),
            "task.agent: must look like 'tenants/{tenant}/agents/{agent}' ({tenant} is 1 to 63"
            " lower-case letters, digits or hyphens, no hyphen first; {agent} is 1 to 63"
            " lower-case letters, digits or hyphens, no hyphen first), not"
            " 'tenants/acme/agents/a b'",
        ),
        (
            Task(input=_INPUT, agent="tenants/other/agents/a"),
            "task.agent: must be an agent of tenant 'acme'",
        ),
        (
            Task(input=_INPUT, parent_task="tasks/t"),
            "task.parent_task: must look like 'tenants/{tenant}/tasks/{task}'",
        ),
    ],
)
async def test_a_wrong_field_is_named_with_what_would_be_right(
    mesh: Mesh, task: Task, message: str
) -> None:
    """And nothing is stored."""
    with pytest.raises(InvalidField) as caught:
        await mesh.tasks.SubmitTask(pb.SubmitTaskRequest(parent=PARENT, task=task), timeout=60)
    assert str(caught.value) == message
    assert await mesh.bus.last(WHOLE.stream, WHOLE.all_events) is None


async def test_a_request_id_has_a_length(mesh: Mesh) -> None:
    """128 characters are taken, one more is not."""
    await mesh.submit(request_id="r" * 128)
    with pytest.raises(InvalidField) as caught:
        await mesh.submit(request_id="r" * 129)
    assert str(caught.value) == "request_id: must be at most 128 characters"


async def test_the_shortest_and_the_longest_time_are_taken(mesh: Mesh) -> None:
    """Both limits are inside, and the deadline follows from them."""
    for limit in (Duration(nanos=1_000), Duration(seconds=86_400)):
        task = await mesh.submit(time_limit=limit)
        took = task.deadline.ToDatetime() - task.create_time.ToDatetime()
        assert took == limit.ToTimedelta()


async def test_a_deadline_is_not_the_callers_to_set(mesh: Mesh) -> None:
    """One in the past is ignored, as every field that only the mesh sets."""
    past = Timestamp(seconds=1)
    task = await mesh.submit(deadline=past, create_time=past, steps=7, depth=9, schedule="s")
    assert (task.deadline.ToDatetime() - task.create_time.ToDatetime()).total_seconds() == 120
    assert task.create_time != past
    assert (task.steps, task.depth, task.schedule) == (0, 0, "")
