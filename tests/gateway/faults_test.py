"""What callers notice when one of two instances dies."""

import asyncio
from collections.abc import AsyncIterator
from dataclasses import dataclass
from typing import Any

import grpc
import pytest
import pytest_asyncio

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from meshtest.eventually import eventually
from tests.gateway.instance import Instance, instances
from tests.gateway.running_gateway import Gateway, gateway
from tier import ports

pytestmark = pytest.mark.asyncio(loop_scope="module")


@dataclass(frozen=True, slots=True)
class Pair:
    """Two instances behind a gateway."""

    gateway: Gateway
    instances: dict[str, Instance]
    stub: Any

    async def get(self, task: str = "t1") -> str:
        """Reads a task; the name of the instance that answered."""
        request = coordinator_service_pb2.GetTaskRequest(name=f"tenants/default/tasks/{task}")
        return (await self.stub.GetTask(request, timeout=60)).task.labels["instance"]

    async def submit(self, request_id: str) -> str:
        """Submits a task; the name of the instance that answered."""
        request = coordinator_service_pb2.SubmitTaskRequest(
            parent="tenants/default", request_id=request_id
        )
        return (await self.stub.SubmitTask(request, timeout=60)).task.labels["instance"]

    async def both(self) -> bool:
        """Whether both instances get calls."""
        return {await self.get() for _ in range(20)} == {"a", "b"}

    async def counted(self, name: str) -> int:
        """One of the gateway's own counters of the coordinator's instances."""
        return (await self.gateway.statistics("cluster.coordinator."))[name]

    async def healthy(self, count: int) -> bool:
        """Whether the gateway takes so many instances for well."""
        return await self.counted("membership_healthy") == count


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def running(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Pair]:
    """See `pair`."""
    first, second = ports.free_ports(2)
    async with (
        instances(a=first, b=second) as running,
        gateway(tmp_path_factory.mktemp("pair"), [first, second]) as front,
        grpc.aio.insecure_channel(front.address) as channel,
    ):
        stub = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
        yield Pair(front, running, stub)


@pytest_asyncio.fixture(loop_scope="module")
async def pair(running: Pair) -> Pair:
    """Two instances, both in use, whatever died in the test before."""
    for each in running.instances.values():
        if not each.alive:
            await each.start()
    await eventually(lambda: running.healthy(2), 60)
    await eventually(running.both, 60)
    return running


async def test_no_safe_call_fails_when_an_instance_is_killed(pair: Pair) -> None:
    """Reads go on without a single error while one of two instances is killed under load."""
    answers: list[str] = []

    async def read_many() -> None:
        for _ in range(150):
            answer = await pair.get()
            answers.append(answer)

    readers = [asyncio.create_task(read_many()) for _ in range(8)]
    await eventually(lambda: len(answers) > 200, 60)
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
    await eventually(lambda: not any(each.alive for each in pair.instances.values()), 60)


async def test_an_effect_in_flight_is_not_repeated(pair: Pair) -> None:
    """A submission whose instance dies over it fails at once, and reaches no other instance."""
    before = await pair.counted("upstream_rq_retry")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.submit("dies")
    assert caught.value.code() is grpc.StatusCode.UNAVAILABLE
    assert await pair.counted("upstream_rq_retry") == before
    await eventually(lambda: not all(each.alive for each in pair.instances.values()), 60)
    assert any(each.alive for each in pair.instances.values())


async def test_an_effect_that_was_refused_is_not_repeated(pair: Pair) -> None:
    """A submission that a service answered with UNAVAILABLE is the caller's to repeat."""
    before = await pair.counted("upstream_rq_retry")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.submit("unavailable")
    assert caught.value.details() == "Not today."
    assert await pair.counted("upstream_rq_retry") == before


async def test_a_read_that_was_refused_is_not_repeated_either(pair: Pair) -> None:
    """What a service has answered is told at once, though the call could be repeated."""
    before = await pair.counted("upstream_rq_retry")
    with pytest.raises(grpc.aio.AioRpcError) as caught:
        await pair.get("unavailable")
    assert caught.value.details() == "Not today."
    assert await pair.counted("upstream_rq_retry") == before


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
    await eventually(lambda: pair.healthy(1), 60)
    before = await pair.counted("upstream_rq_retry")
    assert {await pair.get() for _ in range(50)} == {"b"}
    assert await pair.counted("upstream_rq_retry") == before
    await pair.instances["a"].start()
    await eventually(lambda: pair.healthy(2), 60)
    await eventually(pair.both, 60)
