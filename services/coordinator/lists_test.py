"""Lists of tasks, and agents."""

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import agent_service_pb2, task_event_pb2, task_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from meshkit.errors import (
    AlreadyExists,
    InvalidField,
    InvalidPageToken,
    MeshError,
    RequestIdReused,
    TooLarge,
    Violation,
)
from meshtest.eventually import eventually
from services.coordinator.coordinator_mesh import PARENT, Mesh

pytest_plugins = ["meshtest.fixtures", "services.coordinator.coordinator_mesh"]


async def test_tasks_are_listed_newest_first_in_stable_pages(mesh: Mesh) -> None:
    """Pages neither repeat nor miss a task, though more are submitted between them."""
    names = [(await mesh.submit(f"task {index}")).name for index in range(7)]

    async def page(token: str = "", **filters: object) -> pb.ListTasksResponse:
        request = pb.ListTasksRequest(
            parent=PARENT,
            page_size=3,
            page_token=token,
            **filters,  # type: ignore[arg-type]
        )
        return await mesh.tasks.ListTasks(request, timeout=60)

    async def all_listed() -> bool:
        answer = await mesh.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT), timeout=60)
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
                pb.ListTasksRequest(parent=PARENT, **each),  # type: ignore[arg-type]
                timeout=60,
            )
            return [task.name for task in answer.tasks] == [marked.name]

        await eventually(only_the_marked)
    both = await mesh.tasks.ListTasks(
        pb.ListTasksRequest(parent=PARENT, agent="assistant"), timeout=60
    )
    assert {task.name for task in both.tasks} == {plain.name, marked.name}
    none = await mesh.tasks.ListTasks(
        pb.ListTasksRequest(parent=PARENT, agent="assistant@2"), timeout=60
    )
    assert not none.tasks


@pytest.mark.parametrize(
    ("field", "request_", "limit"),
    [
        (
            "labels",
            pb.ListTasksRequest(labels={f"k{n}": "v" for n in range(2_000)}),
            "64, not 2000",
        ),
        (
            "states",
            pb.ListTasksRequest(states=[task_pb2.TASK_STATE_WAITING] * 300_000),
            "16, not 300000",
        ),
    ],
)
async def test_too_many_filters_are_refused(
    mesh: Mesh, field: str, request_: pb.ListTasksRequest, limit: str
) -> None:
    """More than a task can have are a mistake of the caller, not of the mesh."""
    request_.parent = PARENT
    with pytest.raises(InvalidField) as caught:
        await mesh.tasks.ListTasks(request_, timeout=60)
    assert caught.value.violations == (Violation(field, f"must be at most {limit}"),)


async def test_as_many_filters_as_a_task_can_have_are_answered(mesh: Mesh) -> None:
    """All 64 labels and every state at once."""
    labels = {f"k{number}": "v" for number in range(64)}
    task = await mesh.submit(labels=labels)

    async def is_listed() -> bool:
        return bool(
            (await mesh.tasks.ListTasks(pb.ListTasksRequest(parent=PARENT), timeout=60)).tasks
        )

    await eventually(is_listed)
    request = pb.ListTasksRequest(parent=PARENT, labels=labels, states=task_pb2.TaskState.keys())
    answer = await mesh.tasks.ListTasks(request, timeout=60)
    assert [each.name for each in answer.tasks] == [task.name]


async def test_agents_are_created_once_and_listed_with_the_built_in_one(mesh: Mesh) -> None:
    """The same request answers the same agent; another one of the name is refused."""
    spec = task_event_pb2.AgentSpec(instructions="Count.", tools=["calculator"])
    request = agent_service_pb2.CreateAgentRequest(
        parent=PARENT, agent_id="counter", spec=spec, request_id="a1"
    )
    first = await mesh.agents.CreateAgent(request, timeout=60)
    assert first.agent.name == "tenants/acme/agents/counter"
    assert first.agent.spec.name == "tenants/acme/agents/counter@1"
    assert (await mesh.agents.CreateAgent(request, timeout=60)).agent == first.agent
    request.request_id = "a2"
    with pytest.raises(AlreadyExists):
        await mesh.agents.CreateAgent(request, timeout=60)
    request.request_id = "a1"
    request.spec.instructions = "Count twice."
    with pytest.raises(RequestIdReused):
        await mesh.agents.CreateAgent(request, timeout=60)
    listed = await mesh.agents.ListAgents(
        agent_service_pb2.ListAgentsRequest(parent=PARENT), timeout=60
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
    ],
)
async def test_a_wrong_agent_is_refused(
    mesh: Mesh, agent_id: str, spec: task_event_pb2.AgentSpec, error: type[MeshError]
) -> None:
    """Each by its own kind of error."""
    with pytest.raises(error):
        await mesh.agents.CreateAgent(
            agent_service_pb2.CreateAgentRequest(parent=PARENT, agent_id=agent_id, spec=spec),
            timeout=60,
        )
