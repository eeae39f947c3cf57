"""A gateway that is told to end, while calls are in it."""

import asyncio
import http.client
from collections.abc import AsyncIterator
from pathlib import Path

import grpc
import pytest_asyncio

from agentmesh.coordinator.v1 import coordinator_service_pb2, coordinator_service_pb2_grpc
from meshtest.eventually import eventually
from tests.gateway.running_gateway import Front, front
from tier import ports
from tier.gateway_drain import drain

_WAITS = coordinator_service_pb2.GetTaskRequest(name="tenants/default/tasks/waits")
_QUICK = coordinator_service_pb2.GetTaskRequest(name="tenants/default/tasks/t1")


@pytest_asyncio.fixture
async def running(tmp_path: Path) -> AsyncIterator[Front]:
    """A gateway with one instance behind it."""
    async with front(tmp_path) as each:
        yield each
        each.coordinator.go_on.set()


async def test_calls_in_flight_finish_and_nobody_new_enters(running: Front) -> None:
    """From the first moment no connection is taken and /healthz says so on those that are there;
    the drain ends with the last call, whose answer arrives.
    """
    kept = http.client.HTTPConnection(ports.HOST, running.gateway.port, timeout=60)
    assert await asyncio.to_thread(_health, kept) == (200, None)
    async with grpc.aio.insecure_channel(running.gateway.address) as channel:
        stub = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
        waiting = asyncio.ensure_future(stub.GetTask(_WAITS, timeout=120))
        await eventually(lambda: running.coordinator.calls.get("GetTask"), 60)

        draining = asyncio.create_task(drain(running.gateway.admin, 120.0))

        async def closed() -> bool:
            try:
                _, writer = await asyncio.open_connection(ports.HOST, running.gateway.port)
            except ConnectionRefusedError:
                return True
            writer.close()
            return False

        await eventually(closed, 60)

        async def says_so() -> bool:
            return await asyncio.to_thread(_health, kept) == (503, "close")

        await eventually(says_so, 60)
        assert not draining.done()
        running.coordinator.go_on.set()
        assert (await waiting).task.name == _WAITS.name
        assert await draining == 0


async def test_a_call_that_does_not_end_is_counted(running: Front) -> None:
    """When the time is over, whoever drains hears how many calls are left."""
    async with grpc.aio.insecure_channel(running.gateway.address) as channel:
        stub = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
        waiting = asyncio.ensure_future(stub.GetTask(_WAITS, timeout=120))
        await eventually(lambda: running.coordinator.calls.get("GetTask"), 60)
        assert await drain(running.gateway.admin, 0.1) == 1
        waiting.cancel()


async def test_clients_are_told_to_go(running: Front) -> None:
    """A client that has a connection gets an answer to what it sends, and the word to go with it;
    after that it needs another gateway.
    """
    async with grpc.aio.insecure_channel(running.gateway.address) as channel:
        stub = coordinator_service_pb2_grpc.CoordinatorServiceStub(channel)
        await stub.GetTask(_QUICK, timeout=60)
        assert await drain(running.gateway.admin, 60.0) == 0

        async def gone() -> bool:
            try:
                await stub.GetTask(_QUICK, timeout=60)
            except grpc.aio.AioRpcError as error:
                return error.code() is grpc.StatusCode.UNAVAILABLE
            return False

        await eventually(gone, 60)


def _health(connection: http.client.HTTPConnection) -> tuple[int, str | None]:
    connection.request("GET", "/healthz")
    answer = connection.getresponse()
    answer.read()
    return answer.status, answer.getheader("connection")
