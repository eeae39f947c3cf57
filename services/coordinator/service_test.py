"""What the coordinator accepts, and what it refuses."""

import asyncio

import pytest
from google.protobuf import struct_pb2

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.errors import (
    AgentNotFound,
    BudgetExhausted,
    Forbidden,
    InvalidField,
    NotImplementedYet,
    RequestIdReused,
    TaskNotFound,
    TooLarge,
)
from meshkit.identity import Identity
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def test_an_accepted_task_is_stored_before_the_answer(mesh: Mesh) -> None:
    """The log holds the task with its defaults filled in."""
    task = await mesh.submit("count to three", labels={"team": "a"})
    assert task.state == task_pb2.TASK_STATE_QUEUED
    assert task.agent == "tenants/acme/agents/assistant@1"
    assert task.lane == tier_pb2.LANE_STANDARD
    assert (task.deadline.ToDatetime() - task.create_time.ToDatetime()).total_seconds() == 120
    stored = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)
    assert stored.task == task


async def test_the_same_request_id_is_the_same_task(mesh: Mesh) -> None:
    """A repeat answers the task as it stands, and adds nothing to the log."""
    first = await mesh.submit("once", request_id="r1")
    await mesh.execute(first, "started")
    again = await mesh.submit("once", request_id="r1")
    assert again.name == first.name
    assert again.state == task_pb2.TASK_STATE_RUNNING
    events = await mesh.tasks.ListTaskEvents(pb.ListTaskEventsRequest(name=first.name), timeout=60)
    assert [event.WhichOneof("kind") for event in events.events] == ["submitted", "started"]


async def test_fifty_repeats_at_once_are_one_task(mesh: Mesh) -> None:
    """Whoever comes first, everybody gets the same name."""
    tasks = await asyncio.gather(*(mesh.submit("once", request_id="r") for _ in range(50)))
    assert len({task.name for task in tasks}) == 1


async def test_a_request_id_of_another_tenant_is_another_task(mesh: Mesh) -> None:
    """Tenants do not share request ids."""
    mine = await mesh.submit("once", request_id="r1")
    with identity.use(Identity("other", "user:test")):
        answer = await mesh.tasks.SubmitTask(
            pb.SubmitTaskRequest(
                parent="tenants/other", task=Task(input=TaskInput(text="x")), request_id="r1"
            ),
            timeout=60,
        )
    assert answer.task.name.rpartition("/")[2] != mine.name.rpartition("/")[2]


async def test_a_reused_request_id_is_refused(mesh: Mesh) -> None:
    """Other content under the same id is an error that names the task."""
    first = await mesh.submit("one thing", request_id="r1")
    with pytest.raises(RequestIdReused) as caught:
        await mesh.submit("another thing", request_id="r1")
    assert str(caught.value) == (
        f"request_id 'r1' submitted {first.name!r} with other content."
        " Use a new request_id for a new task."
    )


async def test_every_wrong_field_is_named_at_once(mesh: Mesh) -> None:
    """The caller need not find them one by one."""
    task = Task(priority=11, budget_micros=-3)
    with pytest.raises(InvalidField) as caught:
        await mesh.tasks.SubmitTask(pb.SubmitTaskRequest(parent=PARENT, task=task), timeout=60)
    assert [each.field for each in caught.value.violations] == [
        "task.input",
        "task.priority",
        "task.budget_micros",
    ]


async def test_an_input_over_the_limit_is_refused(mesh: Mesh) -> None:
    """One byte over 1 MiB is too large; just under it is stored and read back whole."""
    with pytest.raises(TooLarge) as caught:
        await mesh.submit("x" * (1 << 20))
    assert caught.value.metadata["limit_bytes"] == str(1 << 20)
    text = "x" * ((1 << 20) - 16)
    task = await mesh.submit(text)
    stored = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)
    assert stored.task.input.text == text


async def test_unknown_names_are_not_found(mesh: Mesh) -> None:
    """Tasks and agents that do not exist are named in the error."""
    with pytest.raises(AgentNotFound) as agent:
        await mesh.submit(agent="ghost")
    assert str(agent.value) == (
        "Tenant 'acme' has no agent 'ghost'. `agentmesh agent list` shows which exist."
    )
    missing = f"{PARENT}/tasks/none"
    calls = (
        mesh.tasks.GetTask(pb.GetTaskRequest(name=missing), timeout=60),
        mesh.tasks.CancelTask(pb.CancelTaskRequest(name=missing), timeout=60),
        mesh.tasks.ListTaskEvents(pb.ListTaskEventsRequest(name=missing), timeout=60),
    )
    for call in calls:
        with pytest.raises(TaskNotFound) as caught:
            await call
        assert str(caught.value) == f"There is no task {missing!r}."
    with pytest.raises(TaskNotFound):
        async for _ in mesh.tasks.WatchTask(pb.WatchTaskRequest(name=missing), timeout=60):
            pass


async def test_another_tenants_names_are_forbidden(mesh: Mesh) -> None:
    """Neither reading nor submitting reaches another tenant."""
    task = await mesh.submit()
    with identity.use(Identity("other", "user:test")):
        with pytest.raises(Forbidden):
            await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=60)
        with pytest.raises(Forbidden):
            await mesh.submit()


async def test_a_spent_budget_refuses_new_tasks(mesh: Mesh) -> None:
    """The error names the budget and when it starts again."""
    status = mesh.governor.explanation.statuses.add(spent_micros=5_000_000)
    status.budget.name = "tenants/acme/budgets/tenant-day"
    status.budget.limit_micros = 5_000_000
    status.resets_at.FromJsonString("2026-01-02T00:00:00Z")
    with pytest.raises(BudgetExhausted) as caught:
        await mesh.submit()
    assert str(caught.value) == (
        "The budget tenants/acme/budgets/tenant-day of 5.00 USD is spent."
        " It starts again at 2026-01-02T00:00:00Z."
    )


async def test_what_was_accepted_stays_accepted_when_the_budget_is_spent(mesh: Mesh) -> None:
    """A repeat answers the task; only new ones are refused."""
    first = await mesh.submit("once", request_id="r1")
    status = mesh.governor.explanation.statuses.add(spent_micros=1)
    status.budget.limit_micros = 1

    async def refused() -> bool:
        try:
            await mesh.submit("another")
        except BudgetExhausted:
            return True
        return False

    await eventually(refused)
    assert (await mesh.submit("once", request_id="r1")).name == first.name


async def test_calls_that_come_later_say_so(mesh: Mesh) -> None:
    """A part of the contract that is not served yet is UNIMPLEMENTED, in a sentence."""
    with pytest.raises(NotImplementedYet) as caught:
        await mesh.tasks.SubmitFeedback(pb.SubmitFeedbackRequest(), timeout=60)
    assert "SubmitFeedback" in str(caught.value)


async def test_input_may_be_data_alone(mesh: Mesh) -> None:
    """A task without words is a task."""
    data = struct_pb2.Struct()
    data.update({"order": 7})
    answer = await mesh.tasks.SubmitTask(
        pb.SubmitTaskRequest(parent=PARENT, task=Task(input=TaskInput(data=data))), timeout=60
    )
    assert answer.task.input.data == data
