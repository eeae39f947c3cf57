"""The coordinator at its contract, on a real broker."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path

import pytest
from google.protobuf import duration_pb2, struct_pb2

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import agent_service_pb2, task_event_pb2, task_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.bus import Bus
from meshkit.errors import (
    AgentNotFound,
    AlreadyExists,
    BudgetExhausted,
    Forbidden,
    InvalidField,
    InvalidPageToken,
    MeshError,
    NotImplementedYet,
    RequestIdReused,
    TaskNotFound,
    TooLarge,
)
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.nats_server import NatsServer
from meshtest.scripted import ScriptedGovernor, registrations
from services.coordinator.main import build
from services.coordinator.settings import CoordinatorSettings
from tasklog import lifecycle, subjects
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]
_PARENT = "tenants/acme"


@dataclass
class Mesh:
    """What a test talks to."""

    tasks: CoordinatorServiceStub
    agents: AgentServiceStub
    governor: ScriptedGovernor
    log: TaskLog
    bus: Bus

    async def submit(self, text: str = "hello", request_id: str = "", **fields: object) -> Task:
        """The task, as accepted."""
        task = Task(input=TaskInput(text=text), **fields)  # type: ignore[arg-type]
        answer = await self.tasks.SubmitTask(
            pb.SubmitTaskRequest(parent=_PARENT, task=task, request_id=request_id), timeout=5
        )
        return answer.task

    async def execute(self, task: Task, *kinds: str) -> None:
        """Appends events as an executor would."""
        task_id = task.name.rpartition("/")[2]
        for kind in kinds:
            last = await self.log.last("acme", task_id)
            assert last is not None
            event = lifecycle.new_event(task.name, "executor/test")
            getattr(event, kind).SetInParent()
            if kind == "completed":
                event.completed.output.text = "done"
            lifecycle.advance(
                last.event.status,
                event,
                sequence=last.event.sequence + 1,
                time=last.event.time.ToDatetime(),
                state=task_pb2.TASK_STATE_SUCCEEDED if kind == "completed" else None,
            )
            await self.log.append("acme", task_id, event, after=last.stream_sequence)


@pytest.fixture
async def mesh(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Mesh]:
    governor = ScriptedGovernor()  # pyright: ignore[reportAbstractUsage]
    async with (
        hosting(
            [lambda resources: build(resources, CoordinatorSettings())],
            data_dir=tmp_path,
            nats_url=nats_server.url,
            beside=registrations(governor),
        ) as channels,
        await Bus.connect(nats_server.url, name="test") as bus,
    ):
        with identity.use(Identity("acme", "user:test")):
            yield Mesh(
                CoordinatorServiceStub(channels.get("coordinator")),
                AgentServiceStub(channels.get("coordinator")),
                governor,
                TaskLog(bus),
                bus,
            )


async def test_an_accepted_task_is_stored_before_the_answer(mesh: Mesh) -> None:
    """The log holds the task with its defaults filled in."""
    task = await mesh.submit("count to three", labels={"team": "a"})
    assert task.state == task_pb2.TASK_STATE_QUEUED
    assert task.agent == "tenants/acme/agents/assistant@1"
    assert task.lane == tier_pb2.LANE_STANDARD
    assert (task.deadline.ToDatetime() - task.create_time.ToDatetime()).total_seconds() == 120
    stored = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=5)
    assert stored.task == task


async def test_the_same_request_id_is_the_same_task(mesh: Mesh) -> None:
    """A repeat answers the task as it stands, and adds nothing to the log."""
    first = await mesh.submit("once", request_id="r1")
    await mesh.execute(first, "started")
    again = await mesh.submit("once", request_id="r1")
    assert again.name == first.name
    assert again.state == task_pb2.TASK_STATE_RUNNING
    events = await mesh.tasks.ListTaskEvents(pb.ListTaskEventsRequest(name=first.name), timeout=5)
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
            timeout=5,
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


@pytest.mark.parametrize(
    ("task", "field"),
    [
        (Task(), "task.input"),
        (Task(input=TaskInput(text=" \n")), "task.input"),
        (Task(input=TaskInput(text="a\x00b")), "task.input.text"),
        (Task(input=TaskInput(text="x"), priority=-1), "task.priority"),
        (Task(input=TaskInput(text="x"), priority=10), "task.priority"),
        (Task(input=TaskInput(text="x"), lane=9), "task.lane"),  # type: ignore[arg-type]
        (Task(input=TaskInput(text="x"), session="a b"), "task.session"),
        (Task(input=TaskInput(text="x"), budget_micros=-1), "task.budget_micros"),
        (Task(input=TaskInput(text="x"), parent_task="t"), "task.parent_task"),
        (Task(input=TaskInput(text="x"), agent="a/b"), "task.agent"),
        (
            Task(input=TaskInput(text="x"), time_limit=duration_pb2.Duration(seconds=1 << 60)),
            "task.time_limit",
        ),
        (Task(input=TaskInput(text="x"), agent="tenants/other/agents/a"), "task.agent"),
        (Task(input=TaskInput(text="x"), labels={"": "v"}), "task.labels['']"),
        (
            Task(input=TaskInput(text="x"), labels={str(i): "v" for i in range(10_000)}),
            "task.labels",
        ),
    ],
)
async def test_a_wrong_field_is_named(mesh: Mesh, task: Task, field: str) -> None:
    """Nothing is stored, and the error says which field is wrong."""
    with pytest.raises(InvalidField) as caught:
        await mesh.tasks.SubmitTask(pb.SubmitTaskRequest(parent=_PARENT, task=task), timeout=5)
    assert [violation.field for violation in caught.value.violations] == [field]
    assert await mesh.bus.last(subjects.STREAM, "task.>") is None


async def test_every_wrong_field_is_named_at_once(mesh: Mesh) -> None:
    """The caller need not find them one by one."""
    task = Task(priority=11, budget_micros=-3)
    with pytest.raises(InvalidField) as caught:
        await mesh.tasks.SubmitTask(pb.SubmitTaskRequest(parent=_PARENT, task=task), timeout=5)
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
    stored = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=5)
    assert stored.task.input.text == text


async def test_unknown_names_are_not_found(mesh: Mesh) -> None:
    """Tasks and agents that do not exist are named in the error."""
    with pytest.raises(AgentNotFound) as agent:
        await mesh.submit(agent="ghost")
    assert str(agent.value) == (
        "Tenant 'acme' has no agent 'ghost'. `agentmesh agent list` shows which exist."
    )
    missing = f"{_PARENT}/tasks/none"
    calls = (
        mesh.tasks.GetTask(pb.GetTaskRequest(name=missing), timeout=5),
        mesh.tasks.CancelTask(pb.CancelTaskRequest(name=missing), timeout=5),
        mesh.tasks.ListTaskEvents(pb.ListTaskEventsRequest(name=missing), timeout=5),
    )
    for call in calls:
        with pytest.raises(TaskNotFound) as caught:
            await call
        assert str(caught.value) == f"There is no task {missing!r}."
    with pytest.raises(TaskNotFound):
        async for _ in mesh.tasks.WatchTask(pb.WatchTaskRequest(name=missing), timeout=5):
            pass


async def test_another_tenants_names_are_forbidden(mesh: Mesh) -> None:
    """Neither reading nor submitting reaches another tenant."""
    task = await mesh.submit()
    with identity.use(Identity("other", "user:test")):
        with pytest.raises(Forbidden):
            await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=5)
        with pytest.raises(Forbidden):
            await mesh.submit()


async def test_a_spent_budget_refuses_new_tasks(mesh: Mesh) -> None:
    """The error names the budget and when it starts again."""
    mesh.governor.spend.day.limit_micros = 5_000_000
    mesh.governor.spend.day.spent_micros = 5_000_000
    mesh.governor.spend.day.resets_at.FromJsonString("2026-01-02T00:00:00Z")
    with pytest.raises(BudgetExhausted) as caught:
        await mesh.submit()
    assert str(caught.value) == (
        "The budget tenants/acme/budgets/tenant-day of 5.00 USD is spent."
        " It starts again at 2026-01-02T00:00:00Z."
    )


async def test_what_was_accepted_stays_accepted_when_the_budget_is_spent(mesh: Mesh) -> None:
    """A repeat answers the task; only new ones are refused."""
    first = await mesh.submit("once", request_id="r1")
    mesh.governor.spend.day.limit_micros = 1
    mesh.governor.spend.day.spent_micros = 1

    async def refused() -> bool:
        try:
            await mesh.submit("another")
        except BudgetExhausted:
            return True
        return False

    await eventually(refused)
    assert (await mesh.submit("once", request_id="r1")).name == first.name


async def test_a_watcher_sees_every_event_once_and_in_order(mesh: Mesh) -> None:
    """From the past and from the present, with no gap between the two."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    seen: list[int] = []

    async def watch(after: int) -> list[int]:
        updates = mesh.tasks.WatchTask(
            pb.WatchTaskRequest(name=task.name, after_sequence=after), timeout=20
        )
        found: list[int] = []
        async for update in updates:
            found.append(update.event.sequence)
            seen.append(update.event.sequence)
        return found

    watching = [asyncio.create_task(watch(after)) for after in (0, 1)]
    await eventually(lambda: len(seen) == 3)
    await mesh.execute(task, "model_called", "tool_called", "completed")
    assert await asyncio.gather(*watching) == [[1, 2, 3, 4, 5], [2, 3, 4, 5]]
    assert await watch(4) == [5]
    assert await watch(5) == []


async def test_running_a_task_streams_it_to_its_end(mesh: Mesh) -> None:
    """First the task, then its events and the model's words, last the task again."""
    updates: list[pb.RunTaskResponse] = []

    async def run() -> None:
        request = pb.RunTaskRequest(parent=_PARENT, task=Task(input=TaskInput(text="x")))
        async for update in mesh.tasks.RunTask(request, timeout=20):
            updates.append(update)  # noqa: PERF401 - read while it grows

    running = asyncio.create_task(run())
    task = (await eventually(lambda: updates[0])).task
    await mesh.execute(task, "started")
    words = pb.TextDelta(step=1, attempt=1, text="Hel")

    async def words_arrive() -> bool:
        await mesh.bus.signal(
            subjects.deltas("acme", task.name.rpartition("/")[2]), words.SerializeToString()
        )
        return any(update.HasField("delta") for update in updates)

    await eventually(words_arrive)
    await mesh.execute(task, "completed")
    await running
    events = [update.event for update in updates if update.HasField("event")]
    assert [event.sequence for event in events] == [1, 2, 3]
    assert next(update.delta for update in updates if update.HasField("delta")) == words
    assert updates[-1].task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert updates[-1].task.output.text == "done"


async def test_events_come_in_pages(mesh: Mesh) -> None:
    """Each page goes on where the last one ended."""
    task = await mesh.submit()
    await mesh.execute(task, "started", "model_called", "tool_called", "completed")
    found: list[int] = []
    token = ""
    while True:
        page = await mesh.tasks.ListTaskEvents(
            pb.ListTaskEventsRequest(name=task.name, page_size=2, page_token=token), timeout=5
        )
        found.extend(event.sequence for event in page.events)
        token = page.next_page_token
        if not token:
            break
    assert found == [1, 2, 3, 4, 5]


async def test_large_output_is_kept_outside_the_log_and_answered_whole(mesh: Mesh) -> None:
    """A result over 64 KiB is a reference in the log and a text to the reader."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    task_id = task.name.rpartition("/")[2]
    last = await mesh.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(task.name, "executor/test")
    event.completed.output.text = "y" * 100_000
    lifecycle.advance(
        last.event.status,
        event,
        sequence=3,
        time=last.event.time.ToDatetime(),
        state=task_pb2.TASK_STATE_SUCCEEDED,
    )
    await mesh.log.append("acme", task_id, event, after=last.stream_sequence)
    stored = await mesh.bus.last(subjects.STREAM, subjects.scope("acme", task_id))
    assert stored is not None
    assert len(stored.payload) < 2000
    answer = await mesh.tasks.GetTask(pb.GetTaskRequest(name=task.name), timeout=5)
    assert answer.task.output.text == "y" * 100_000


async def test_a_queued_task_is_cancelled_at_once(mesh: Mesh) -> None:
    """And a second cancel answers the same."""
    task = await mesh.submit()
    for _ in range(2):
        answer = await mesh.tasks.CancelTask(
            pb.CancelTaskRequest(name=task.name, reason="changed my mind"), timeout=5
        )
        assert answer.task.state == task_pb2.TASK_STATE_CANCELLED


async def test_a_running_task_is_asked_to_stop(mesh: Mesh) -> None:
    """The request stands in the log, and executors hear of it."""
    task = await mesh.submit()
    await mesh.execute(task, "started")
    heard = await mesh.bus.subscribe(subjects.ALL_CANCELS)
    answer = await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=task.name), timeout=5)
    assert answer.task.state == task_pb2.TASK_STATE_RUNNING
    message = await asyncio.wait_for(anext(heard), 5)
    assert subjects.parse(message.subject) == ("acme", task.name.rpartition("/")[2])
    await heard.close()
    last = await mesh.log.last("acme", task.name.rpartition("/")[2])
    assert last is not None
    assert last.event.status.cancel_requested


async def test_a_second_cancel_is_heard_again(mesh: Mesh) -> None:
    """An executor that came later than the first signal hears the second one."""
    task = await mesh.submit()
    await mesh.execute(task, "started", "cancel_requested")
    heard = await mesh.bus.subscribe(subjects.ALL_CANCELS)
    await mesh.tasks.CancelTask(pb.CancelTaskRequest(name=task.name), timeout=5)
    message = await asyncio.wait_for(anext(heard), 5)
    assert subjects.parse(message.subject)[1] == task.name.rpartition("/")[2]
    await heard.close()


async def test_tasks_are_listed_newest_first_in_stable_pages(mesh: Mesh) -> None:
    """Pages neither repeat nor miss a task, though more are submitted between them."""
    names = [(await mesh.submit(f"task {index}")).name for index in range(7)]

    async def page(token: str = "", **filters: object) -> pb.ListTasksResponse:
        request = pb.ListTasksRequest(
            parent=_PARENT,
            page_size=3,
            page_token=token,
            **filters,  # type: ignore[arg-type]
        )
        return await mesh.tasks.ListTasks(request, timeout=5)

    async def all_listed() -> bool:
        answer = await mesh.tasks.ListTasks(pb.ListTasksRequest(parent=_PARENT), timeout=5)
        return len(answer.tasks) == 7

    await eventually(all_listed)
    first = await page()
    await mesh.submit("one more")
    second = await page(first.next_page_token)
    third = await page(second.next_page_token)
    assert not third.next_page_token
    listed = [task.name for each in (first, second, third) for task in each.tasks]
    assert listed == names[::-1]
    with pytest.raises(InvalidPageToken):
        await page(first.next_page_token, session="other")


async def test_lists_filter_by_state_label_session_agent_and_lane(mesh: Mesh) -> None:
    """Each filter finds exactly the task that fits."""
    plain = await mesh.submit("plain")
    marked = await mesh.submit(
        "marked", labels={"team": "a"}, session="s1", lane=tier_pb2.LANE_BATCH
    )
    await mesh.execute(marked, "started", "completed")
    filters: list[dict[str, object]] = [
        {"states": [task_pb2.TASK_STATE_SUCCEEDED]},
        {"labels": {"team": "a"}},
        {"session": "s1"},
        {"lane": tier_pb2.LANE_BATCH},
    ]
    for each in filters:

        async def only_the_marked(each: dict[str, object] = each) -> bool:
            answer = await mesh.tasks.ListTasks(
                pb.ListTasksRequest(parent=_PARENT, **each),  # type: ignore[arg-type]
                timeout=5,
            )
            return [task.name for task in answer.tasks] == [marked.name]

        await eventually(only_the_marked)
    both = await mesh.tasks.ListTasks(
        pb.ListTasksRequest(parent=_PARENT, agent="assistant"), timeout=5
    )
    assert {task.name for task in both.tasks} == {plain.name, marked.name}
    none = await mesh.tasks.ListTasks(
        pb.ListTasksRequest(parent=_PARENT, agent="assistant@2"), timeout=5
    )
    assert not none.tasks


async def test_agents_are_created_once_and_listed_with_the_built_in_one(mesh: Mesh) -> None:
    """The same request answers the same agent; another one of the name is refused."""
    spec = task_event_pb2.AgentSpec(instructions="Count.", tools=["calculator"])
    request = agent_service_pb2.CreateAgentRequest(
        parent=_PARENT, agent_id="counter", spec=spec, request_id="a1"
    )
    first = await mesh.agents.CreateAgent(request, timeout=5)
    assert first.agent.name == "tenants/acme/agents/counter"
    assert first.agent.spec.name == "tenants/acme/agents/counter@1"
    assert (await mesh.agents.CreateAgent(request, timeout=5)).agent == first.agent
    request.request_id = "a2"
    with pytest.raises(AlreadyExists):
        await mesh.agents.CreateAgent(request, timeout=5)
    request.request_id = "a1"
    request.spec.instructions = "Count twice."
    with pytest.raises(RequestIdReused):
        await mesh.agents.CreateAgent(request, timeout=5)
    listed = await mesh.agents.ListAgents(
        agent_service_pb2.ListAgentsRequest(parent=_PARENT), timeout=5
    )
    assert [agent.name.rpartition("/")[2] for agent in listed.agents] == ["assistant", "counter"]
    task = await mesh.submit(agent="counter")
    assert task.agent == "tenants/acme/agents/counter@1"


@pytest.mark.parametrize(
    ("agent_id", "spec", "error"),
    [
        ("Bad Id", task_event_pb2.AgentSpec(instructions="x"), InvalidField),
        ("assistant", task_event_pb2.AgentSpec(instructions="x"), AlreadyExists),
        ("a", task_event_pb2.AgentSpec(), InvalidField),
        ("a", task_event_pb2.AgentSpec(instructions="x", max_steps=-1), InvalidField),
        ("a", task_event_pb2.AgentSpec(instructions="x" * 70_000), TooLarge),
        (
            "a",
            task_event_pb2.AgentSpec(
                instructions="x", pattern=task_event_pb2.AGENT_PATTERN_SUPERVISOR
            ),
            InvalidField,
        ),
    ],
)
async def test_a_wrong_agent_is_refused(
    mesh: Mesh, agent_id: str, spec: task_event_pb2.AgentSpec, error: type[MeshError]
) -> None:
    """Each by its own kind of error."""
    with pytest.raises(error):
        await mesh.agents.CreateAgent(
            agent_service_pb2.CreateAgentRequest(parent=_PARENT, agent_id=agent_id, spec=spec),
            timeout=5,
        )


async def test_calls_that_come_later_say_so(mesh: Mesh) -> None:
    """A part of the contract that is not served yet is UNIMPLEMENTED, in a sentence."""
    with pytest.raises(NotImplementedYet) as caught:
        await mesh.tasks.GetQueueStats(pb.GetQueueStatsRequest(), timeout=5)
    assert "GetQueueStats" in str(caught.value)


async def test_input_may_be_data_alone(mesh: Mesh) -> None:
    """A task without words is a task."""
    data = struct_pb2.Struct()
    data.update({"order": 7})
    answer = await mesh.tasks.SubmitTask(
        pb.SubmitTaskRequest(parent=_PARENT, task=Task(input=TaskInput(data=data))), timeout=5
    )
    assert answer.task.input.data == data
