"""What callers notice when one of two instances dies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import grpc
import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from meshtest.eventually import eventually
from tests.gateway.instance import Instance, instances
from tests.gateway.running_gateway import Gateway, gateway
from tier import ports


@dataclass(frozen=True, slots=True)
class Pair:
    """Two instances behind a gateway."""

    gateway: Gateway
    instances: dict[str, Instance]
    stub: Any

    async def get(self, task: str = "t1") -> str:
        """Reads a task; the name of the instance that answered."""
        request = coordinator_service_pb2.GetTaskRequest(name=f"tenants/default/tasks/{task}")
        return (await self.stub.GetTask(request, timeout=10)).task.labels["instance"]

    async def submit(self, request_id: str) -> str:
        """Submits a task; the name of the instance that answered."""
        request = coordinator_service_pb2.SubmitTaskRequest(
            parent="tenants/default", request_id=request_id
        )
        return (await self.stub.SubmitTask(request, timeout=10)).task.labels["instance"]

    async def both(self) -> bool:
        """Whether both instances get calls."""
        return {await self.get() for _ in range(20)} == {"a", "b"}


@pytest_asyncio.fixture
async def pair(tmp_path: Path) -> AsyncIterator[Pair]:
    """Two instances, both in use."""
    first, second = ports.free_ports(2)
    async with (
        instances(a=first, b=second) as running,
        gateway(tmp_path, [first, second]) as front,
        grpc.aio.insecure_channel(front.address) as channel,
    ):
        made = Pair(front, running, coordinator_service_pb2_grpc.CoordinatorServiceStub(channel))
        await eventually(made.both)
        yield made


async def test_no_safe_call_fails_when_an_instance_is_killed(pair: Pair) -> None:
    """Reads go on without a single error while one of two instances is killed under load."""
    answers: list[str] = []

    async def read_many() -> None:
        for _ in range(150):
            answer = await pair.get()
            answers.append(answer)

    readers = [asyncio.create_task(read_many()) for _ in range(8)]
    await eventually(lambda: len(answers) > 200)
    pair.instances["a"].kill()
    await asyncio.gather(*readers)
    assert len(answers) == 8 * 150
    assert set(answers[-100:]) == {"b"}


async def test_a_read_in_flight_is_repeated_elsewhere(pair: Pair) -> None:
    """A read whose instance dies over it is sent to the other one, until none is left."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.get("dies")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    # The connection breaks a moment before the process has ended.
    await eventually(lambda: not any(each.alive for each in pair.instances.values()))


async def test_an_effect_in_flight_is_not_repeated(pair: Pair) -> None:
    """A submission whose instance dies over it fails at once, and reaches no other instance."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.submit("dies")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    statistics = await pair.gateway.statistics("cluster.coordinator.")
    assert statistics["upstream_rq_retry"] == 0
    await eventually(lambda: not all(each.alive for each in pair.instances.values()))
    assert any(each.alive for each in pair.instances.values())


async def test_an_effect_that_was_refused_is_not_repeated(pair: Pair) -> None:
    """A submission that a service answered with UNAVAILABLE is the caller's to repeat."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.submit("unavailable")
    assert caught.value.details() == "Not today."
    statistics = await pair.gateway.statistics("cluster.coordinator.")
    assert statistics["upstream_rq_retry"] == 0


async def test_a_read_that_was_refused_is_not_repeated_either(pair: Pair) -> None:
    """What a service has answered is told at once, though the call could be repeated."""
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.get("unavailable")
    assert caught.value.details() == "Not today."
    statistics = await pair.gateway.statistics("cluster.coordinator.")
    assert statistics["upstream_rq_retry"] == 0


async def test_submissions_find_the_living_after_a_death(pair: Pair) -> None:
    """A call that never reached a server is sent elsewhere, whatever it does."""
    pair.instances["a"].kill()
    answered = await asyncio.gather(
        *(pair.submit(f"r{n}") for n in range(50)), return_exceptions=True
    )
    # The connection may die with a call on it; every call after that one must pass.
    assert {each for each in answered if isinstance(each, str)} == {"b"}
    assert {await pair.submit(f"s{n}") for n in range(50)} == {"b"}


async def test_a_dead_instance_is_left_alone_and_comes_back(pair: Pair) -> None:
    """Health checks take a killed instance out, and put it back when it serves again."""
    pair.instances["a"].kill()

    async def healthy(count: int) -> bool:
        statistics = await pair.gateway.statistics("cluster.coordinator.")
        return statistics["membership_healthy"] == count

    await eventually(lambda: healthy(1), timeout_seconds=15)
    before = (await pair.gateway.statistics("cluster.coordinator."))["upstream_rq_retry"]
    assert {await pair.get() for _ in range(50)} == {"b"}
    after = (await pair.gateway.statistics("cluster.coordinator."))["upstream_rq_retry"]
    assert after == before
    await pair.instances["a"].start()
    await eventually(lambda: healthy(2), timeout_seconds=15)
    await eventually(pair.both)
