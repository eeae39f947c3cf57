"""Tools behind the tool service."""

from collections import OrderedDict
from collections.abc import Mapping
from typing import Final

from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.tool.v1 import tool_pb2, tool_service_pb2_grpc
from agentmesh.tool.v1 import tool_service_pb2 as pb
from meshkit import batch, names
from meshkit.batch_stream import BatchStream
from meshkit.clock import Clock
from meshkit.coalesce import Coalescer

# A tool that was just registered is offered to models after this long at most.
_KEPT_SECONDS: Final = 5.0
_KEPT_TENANTS: Final = 1000
_LIST_TIMEOUT_SECONDS: Final = 5.0
_PAGE: Final = 1000


class GrpcTools:
    """Tools over ToolService. Calls that happen at the same time travel together."""

    def __init__(
        self,
        stub: tool_service_pb2_grpc.ToolServiceStub,
        clock: Clock,
        *,
        timeout_seconds: float,
    ) -> None:
        self._stub = stub
        self._clock = clock
        self._timeout_seconds = timeout_seconds
        self._kept: OrderedDict[str, tuple[float, Mapping[str, tool_pb2.Tool]]] = OrderedDict()
        stream = BatchStream[batch.Unsent](
            stub.BatchExecuteToolsStream,
            pb.BatchExecuteToolsStreamRequest,
            who="tool",
            timeout_seconds=timeout_seconds,
            withdraws=True,
        )
        self._calls = Coalescer[batch.Unsent, pb.ExecuteToolResponse](
            stream.send, withdraw=stream.withdraw
        )

    async def list(self, tenant: str) -> Mapping[str, tool_pb2.Tool]:
        """The tenant's tools by the name that models use."""
        kept = self._kept.get(tenant)
        now = self._clock.monotonic_seconds()
        if kept is not None and kept[0] > now:
            return kept[1]
        tools: dict[str, tool_pb2.Tool] = {}
        token = ""
        while True:
            answer = await self._stub.ListTools(
                pb.ListToolsRequest(
                    parent=names.TENANT.format(tenant=tenant), page_size=_PAGE, page_token=token
                ),
                timeout=_LIST_TIMEOUT_SECONDS,
            )
            tools.update((tool.tool_id, tool) for tool in answer.tools)
            token = answer.next_page_token
            if not token:
                break
        self._kept[tenant] = (now + _KEPT_SECONDS, tools)
        self._kept.move_to_end(tenant)
        if len(self._kept) > _KEPT_TENANTS:
            self._kept.popitem(last=False)
        return tools

    async def execute(
        self, tenant: str, call: ToolCall, *, idempotency_key: str, session: str
    ) -> pb.ExecuteToolResponse:
        """Executes a tool, once per key."""
        context = batch.item_context(self._timeout_seconds, idempotency_key=idempotency_key)
        request = pb.ExecuteToolRequest(
            parent=f"tenants/{tenant}",
            idempotency_key=idempotency_key,
            session=session,
        )
        request.call.CopyFrom(call)
        answer = self._calls.call(batch.Unsent(context, request))
        return await batch.in_time(answer, context, f"The tool {call.tool}")
