"""One task through the whole mesh: gateway, services, log and back."""

import asyncio

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from agentmesh.memory.v1 import document_pb2, memory_service_pb2
from agentmesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from meshkit.errors import MeshError, TooLarge
from tests.e2e.running_mesh import PARENT, Client

pytest_plugins = ["tests.e2e.shared_meshes"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_RUNBOOK = """# Rate limits

Callers that send too much are answered with RESOURCE_EXHAUSTED.

They find in RetryInfo when to come back.
"""
_OTHER = """# Backups

Backups are taken every night at two and kept for a month.
"""


async def test_a_question_is_answered_from_documents_and_tools(client: Client) -> None:
    """The answer is grounded, cites lines that say so, and lists what it used."""
    memory = MemoryServiceStub(client.channels.get("gateway"))
    stored = await memory.UpsertDocuments(
        memory_service_pb2.UpsertDocumentsRequest(
            parent=PARENT,
            documents=[
                document_pb2.DocumentSource(uri="docs/limits.md", content=_RUNBOOK.encode()),
                document_pb2.DocumentSource(uri="docs/backups.md", content=_OTHER.encode()),
            ],
        ),
        timeout=120,
    )
    assert [each.outcome for each in stored.results] == [
        document_pb2.UPSERT_OUTCOME_CREATED,
        document_pb2.UPSERT_OUTCOME_CREATED,
    ]
    request = pb.RunTaskRequest(
        parent=PARENT,
        task=Task(
            input=TaskInput(
                text="What is 17.5% of 2,480, and which of our documents mentions rate limits?"
            ),
            lane=tier_pb2.LANE_INTERACTIVE,
        ),
    )
    updates = [update async for update in client.tasks.RunTask(request, timeout=120)]
    task = updates[-1].task
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert "434" in task.output.text
    assert "docs/limits.md" in task.output.text
    cited = task.citations[0]
    assert cited.uri == "docs/limits.md"
    lines = _RUNBOOK.splitlines()[cited.start_line - 1 : cited.end_line]
    assert any("RESOURCE_EXHAUSTED" in line or "Rate limits" in line for line in lines)
    kinds = [update.event.WhichOneof("kind") for update in updates if update.HasField("event")]
    assert kinds[0] == "submitted"
    assert kinds[-1] == "completed"
    assert kinds.count("tool_called") == 2
    words = "".join(update.delta.text for update in updates if update.HasField("delta"))
    assert words.strip()
    assert task.output.text.startswith(words.strip()[:20])
    assert task.usage.model_calls == 2
    assert task.usage.tool_calls == 2


async def test_two_submissions_with_one_request_id_are_one_task(client: Client) -> None:
    """Through the gateway, at the same time."""
    first, second = await asyncio.gather(
        client.submit("What is 2 + 2?", "same"), client.submit("What is 2 + 2?", "same")
    )
    assert first.name == second.name


async def test_reflection_lists_every_service_of_the_mesh(client: Client) -> None:
    """Whoever asks at the gateway sees all contracts that are served."""
    listed = await client.reflected_services()
    assert listed >= {
        "agentmesh.coordinator.v1.CoordinatorService",
        "agentmesh.coordinator.v1.AgentService",
        "agentmesh.reasoning.v1.ReasoningService",
        "agentmesh.memory.v1.MemoryService",
        "agentmesh.tool.v1.ToolService",
        "agentmesh.governor.v1.CostGovernorService",
        "grpc.health.v1.Health",
    }
    # It answers no calls, and so has no contract to describe.
    assert "agentmesh.executor.v1.Executor" not in listed


async def test_ten_megabytes_of_text_are_refused_by_name(client: Client) -> None:
    """The mesh says that it is too much, and goes on serving."""
    with pytest.raises(MeshError) as caught:
        await client.submit("x" * 10_000_000)
    assert isinstance(caught.value, TooLarge)
    assert (await client.submit("What is 1 + 1?")).name


async def test_many_tasks_at_once_each_end_with_their_own_answer(client: Client) -> None:
    """Forty tasks, each its own sum."""
    tasks = await asyncio.gather(*(client.submit(f"What is {n} + 1000?") for n in range(40)))
    for number, task in enumerate(tasks):
        async for _ in client.tasks.WatchTask(pb.WatchTaskRequest(name=task.name), timeout=120):
            pass
        ended = await client.get(task.name)
        assert f"{number + 1000:,}" in ended.output.text or str(number + 1000) in ended.output.text
