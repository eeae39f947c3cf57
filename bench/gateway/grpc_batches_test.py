"""Calls that are made at once travel together, and each has its own answer."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from typing import Any

import grpc
import pytest
from google.rpc import status_pb2

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from bench.gateway.grpc_batches import GrpcBatches
from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http_calls import CallFailed


@asynccontextmanager
async def _batches(streams: list[list[int]]) -> AsyncGenerator[GrpcBatches]:
    """Calls of a server that notes how many items each message of each stream had.

    It answers under the key that it was asked with, refuses `no`, and leaves at `leave`.
    """

    async def admit(
        requests: AsyncIterator[pb.BatchAdmitStreamRequest], context: Any
    ) -> AsyncIterator[pb.BatchAdmitStreamResponse]:
        sizes: list[int] = []
        streams.append(sizes)
        async for request in requests:
            sizes.append(len(request.items))
            results: list[pb.BatchAdmitResult] = []
            for item in request.items:
                result = pb.BatchAdmitResult(index=item.context.index)
                if item.request.key == "leave":
                    return
                if item.request.key == "no":
                    result.error.CopyFrom(status_pb2.Status(code=9, message="Refused."))
                else:
                    result.response.reservation.key = item.request.key
                results.append(result)
            yield pb.BatchAdmitStreamResponse(results=results)

    streaming: Any = grpc.stream_stream_rpc_method_handler
    handler = streaming(
        admit,
        request_deserializer=pb.BatchAdmitStreamRequest.FromString,
        response_serializer=pb.BatchAdmitStreamResponse.SerializeToString,
    )
    server = grpc.aio.server()
    server.add_generic_rpc_handlers(
        (grpc.method_handlers_generic_handler("test.S", {"Admit": handler}),)
    )
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    calls = GrpcCalls(f"127.0.0.1:{port}", {})
    try:
        yield GrpcBatches(
            calls,
            "/test.S/Admit",
            request=pb.BatchAdmitStreamRequest,
            response=pb.BatchAdmitStreamResponse.FromString,
        )
    finally:
        calls.close()
        await server.stop(None)


async def _ask(batches: GrpcBatches, key: str) -> str:
    item = pb.BatchAdmitItem(request=pb.AdmitRequest(key=key))
    return (await batches.ask(item)).reservation.key


async def test_calls_of_one_moment_share_a_message() -> None:
    """And those after them the stream."""
    streams: list[list[int]] = []
    async with _batches(streams) as batches:
        for number in range(3):
            keys = [f"{number}-{each}" for each in range(20)]
            assert await asyncio.gather(*(_ask(batches, key) for key in keys)) == keys
    assert streams == [[20, 20, 20]]


async def test_an_item_that_is_refused_fails_alone() -> None:
    """With the words of the refusal."""
    async with _batches([]) as batches:
        no, yes = await asyncio.gather(
            _ask(batches, "no"), _ask(batches, "yes"), return_exceptions=True
        )
        assert yes == "yes"
        assert isinstance(no, CallFailed)
        assert str(no) == "Refused."


async def test_a_stream_that_ends_early_fails_what_it_owes() -> None:
    """The next call has a new one."""
    async with _batches([]) as batches:
        with pytest.raises(CallFailed, match="ended before all was answered"):
            await _ask(batches, "leave")
        assert await _ask(batches, "again") == "again"


async def test_a_stream_that_is_full_is_followed_by_another() -> None:
    """What a server lets a stream send at first is never passed."""
    streams: list[list[int]] = []
    async with _batches(streams) as batches:
        for number in range(30):
            key = f"{number}" + "x" * 9_000
            assert await _ask(batches, key) == key
    assert len(streams) > 3
    assert sum(map(sum, streams)) == 30
