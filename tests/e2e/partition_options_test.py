"""A mesh is told at its first start into how many partitions its task log is cut."""

from pathlib import Path

import pytest

from agentmesh.coordinator.v1 import task_pb2
from meshtest.eventually import eventually
from tests.e2e.running_mesh import Client, running
from tier.api import BadConfig, Tier


async def _answers(client: Client, name: str) -> None:
    async def succeeded() -> bool:
        return (await client.get(name)).state == task_pb2.TASK_STATE_SUCCEEDED

    await eventually(succeeded, 60)


async def test_a_log_keeps_its_partitions_whatever_later_starts_say(tmp_path: Path) -> None:
    """Another number is refused; without one, and in the other tier, the tasks are there."""
    async with running(tmp_path, Tier.STAGING, task_partitions=4) as client:
        name = (await client.submit("What is 6 * 7?")).name
        await _answers(client, name)
    with pytest.raises(BadConfig) as refused:
        async with running(tmp_path, Tier.PROTOTYPE, task_partitions=1):
            pass
    assert str(refused.value) == (
        "task_partitions: the task log on this broker has 4 of them, which is for good, not 1:"
        " set 4 or leave it out, or begin a new log on another broker or data directory"
    )
    async with running(tmp_path, Tier.PROTOTYPE) as client:
        assert "42" in (await client.get(name)).output.text
        await _answers(client, (await client.submit("What is 7 * 7?")).name)
