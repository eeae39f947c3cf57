"""The calculator as a tool that changes something outside, so that what it does can be counted."""

import asyncio
import dataclasses
import json
import os
from collections.abc import AsyncIterator
from contextvars import ContextVar
from typing import Any, Final

from agentmesh.tool.v1 import tool_service_pb2 as pb
from meshkit.errors import DependencyUnavailable
from services.tool.calculator import CalculatorTool
from services.tool.service import ToolService
from services.tool.tool import Answer, Effect, Invocation, ToolSpec

# Where the world outside listens, as `host:port`.
OUTSIDE: Final = "FAULTS_OUTSIDE"
# What a repeat does: the name of an Effect.
EFFECT: Final = "FAULTS_EFFECT"
_TIMEOUT_SECONDS: Final = 20.0

_caller_port: ContextVar[int] = ContextVar("caller_port", default=0)


class PeerToolService(ToolService):
    """The tool service, which lets tools know by which connection they are called."""

    async def BatchExecuteToolsStream(
        self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: Any
    ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
        """As ever."""
        _caller_port.set(int(context.peer().rpartition(":")[2]))
        async for each in super().BatchExecuteToolsStream(request_iterator, context):
            yield each


class ToldCalculator(CalculatorTool):
    """Tells the world outside of each call, and answers when that has answered."""

    @property
    def spec(self) -> ToolSpec:
        """The calculator's, but that it changes something."""
        return dataclasses.replace(
            super().spec, effect=Effect[os.environ[EFFECT]], timeout_seconds=_TIMEOUT_SECONDS
        )

    async def execute(self, invocation: Invocation) -> Answer:
        """Has the effect, then computes."""
        host, _, port = os.environ[OUTSIDE].rpartition(":")
        told = {
            "key": invocation.idempotency_key,
            "expression": invocation.arguments["expression"],
            "caller_port": _caller_port.get(),
        }
        reader, writer = await asyncio.open_connection(host, int(port))
        try:
            writer.write(json.dumps(told).encode() + b"\n")
            if await reader.readline() != b"done\n":
                raise DependencyUnavailable("The world outside is gone.")
        finally:
            writer.close()
        return await super().execute(invocation)
