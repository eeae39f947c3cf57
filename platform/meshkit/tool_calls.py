"""Test-only: calls of tools that go in batches, from one end to the other."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from typing import Any

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.batch_pb2 import ItemContext
from agentmesh.common.v1.conversation_pb2 import ToolCall, ToolResult
from agentmesh.tool.v1 import tool_service_pb2 as pb
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.batch import serve_stream
from meshkit.batch_stream import BatchStream
from meshkit.client import Channels
from meshkit.coalesce import Coalescer
from meshkit.errors import (
    Conflict,
    MeshError,
    to_status,
)
from meshkit.server import Registration
from meshtest.serving import serving

Calls = Coalescer[pb.BatchExecuteToolsItem, pb.ExecuteToolResponse]

_Execute = Callable[[str], Awaitable[str]]

# What it does not serve is not asked for.
Servicer: Any = pb_grpc.ToolServiceServicer


class Tools(Servicer):
    """Answers each call's tool with what `execute` makes of it."""

    def __init__(self, execute: _Execute, *, max_unanswered: int = 100) -> None:
        self.execute = execute
        self.streams = 0
        self.open = 0
        self._max_unanswered = max_unanswered

    async def BatchExecuteToolsStream(
        self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
    ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
        async def one(item: pb.BatchExecuteToolsItem) -> pb.ExecuteToolResponse:
            text = await self.execute(item.request.call.tool)
            return pb.ExecuteToolResponse(result=ToolResult(text=text))

        self.streams += 1
        self.open += 1
        try:
            async for some in serve_stream(
                request_iterator,
                lambda item: item.context,
                one,
                max_unanswered=self._max_unanswered,
            ):
                yield pb.BatchExecuteToolsStreamResponse(
                    results=[
                        pb.BatchExecuteToolsResult(index=index, error=to_status(outcome))
                        if isinstance(outcome, MeshError)
                        else pb.BatchExecuteToolsResult(index=index, response=outcome)
                        for index, outcome in some
                    ]
                )
        finally:
            self.open -= 1


def registration_of(tools: Tools) -> Registration:
    """What a server serves them with."""
    return Registration(
        service_name="agentmesh.tool.v1.ToolService",
        add=pb_grpc.add_ToolServiceServicer_to_server,
        servicer=tools,
    )


@asynccontextmanager
async def calling(
    tools: Tools,
    *,
    timeout_seconds: float = 120,
    max_items: int = 64,
    single_address: bool = False,
) -> AsyncGenerator[Calls]:
    """The calls of a client of theirs."""
    async with serving([registration_of(tools)], single_address=single_address) as channels:
        yield called(channels, timeout_seconds=timeout_seconds, max_items=max_items)


def called(channels: Channels, *, timeout_seconds: float = 120, max_items: int = 64) -> Calls:
    """The same, over channels that are there."""
    stream = BatchStream[pb.BatchExecuteToolsItem](
        pb_grpc.ToolServiceStub(channels.get("tool")).BatchExecuteToolsStream,
        pb.BatchExecuteToolsStreamRequest,
        who="tool",
        timeout_seconds=timeout_seconds,
        withdraws=True,
        open_seconds=0.1,
    )
    return Calls(stream.send, withdraw=stream.withdraw, max_items=max_items, release_seconds=0.01)


def call_item(tool: str, *, argument: str = "", seconds: int = 120) -> pb.BatchExecuteToolsItem:
    """A call of one tool."""
    call = ToolCall(tool=tool)
    call.arguments.update({"text": argument})
    return pb.BatchExecuteToolsItem(
        context=ItemContext(tenant="ada", caller="service:test", timeout=Duration(seconds=seconds)),
        request=pb.ExecuteToolRequest(call=call),
    )


async def shout(tool: str) -> str:
    """Says the tool and whose call it was, unless it is one of two that fail."""
    if tool == "broken":
        raise Conflict("It is taken.")
    if tool == "faulty":
        raise ValueError("a secret")
    return f"{tool} for {identity.current().tenant}"
