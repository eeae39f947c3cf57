"""The ToolService of the contract. What is missing here is served by a later version."""

from collections.abc import AsyncIterator
from typing import Final

from agentmesh.common.v1 import batch_pb2
from agentmesh.tool.v1 import tool_service_pb2 as pb
from agentmesh.tool.v1 import tool_service_pb2_grpc as pb_grpc
from meshkit import errors, page_token
from meshkit.batch import serve_items, serve_stream
from services.tool import convert
from services.tool.executor import ToolExecutor


class ToolService(pb_grpc.ToolServiceServicer):
    """Decodes, asks the executor, encodes."""

    def __init__(self, executor: ToolExecutor) -> None:
        self._executor: Final = executor

    async def GetTool(self, request: pb.GetToolRequest, context: object) -> pb.GetToolResponse:
        """One tool."""
        tenant, tool = convert.tool_name(request.name)
        return pb.GetToolResponse(tool=convert.tool(tenant, self._executor.get(tool)))

    async def ListTools(
        self, request: pb.ListToolsRequest, context: object
    ) -> pb.ListToolsResponse:
        """The tools of a tenant, a page at a time."""
        tenant = convert.tenant(request.parent)
        query = page_token.query_of(request)
        size = page_token.page_size(request.page_size, default=50)
        last = page_token.decode(query, request.page_token) or ""
        left = [each for each in self._executor.list() if each.id > last]
        token = page_token.encode(query, left[size - 1].id) if len(left) > size else ""
        tools = [convert.tool(tenant, each) for each in left[:size]]
        return pb.ListToolsResponse(tools=tools, next_page_token=token)

    async def ExecuteTool(
        self, request: pb.ExecuteToolRequest, context: object
    ) -> pb.ExecuteToolResponse:
        """Executes a tool."""
        return await self._execute(request)

    async def BatchExecuteTools(
        self, request: pb.BatchExecuteToolsRequest, context: object
    ) -> AsyncIterator[pb.BatchExecuteToolsResponse]:
        """Executes many tools; each is answered as it is done."""
        answers = serve_items(request.items, _context, self._execute_item)
        async for ready in answers:
            yield pb.BatchExecuteToolsResponse(results=[_result(*each) for each in ready])

    async def BatchExecuteToolsStream(
        self, request_iterator: AsyncIterator[pb.BatchExecuteToolsStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchExecuteToolsStreamResponse]:
        """Executes many tools, one batch after the other; each is answered as it is done."""
        answers = serve_stream(request_iterator, _context, self._execute_item)
        async for ready in answers:
            yield pb.BatchExecuteToolsStreamResponse(results=[_result(*each) for each in ready])

    async def _execute_item(self, item: pb.BatchExecuteToolsItem) -> pb.ExecuteToolResponse:
        return await self._execute(item.request)

    async def _execute(self, request: pb.ExecuteToolRequest) -> pb.ExecuteToolResponse:
        execution = await self._executor.execute(convert.tool_request(request))
        return convert.execute_response(request, execution)


def _context(item: pb.BatchExecuteToolsItem) -> batch_pb2.ItemContext:
    return item.context


def _result(
    index: int, answer: pb.ExecuteToolResponse | errors.MeshError
) -> pb.BatchExecuteToolsResult:
    if isinstance(answer, errors.MeshError):
        return pb.BatchExecuteToolsResult(index=index, error=errors.to_status(answer))
    return pb.BatchExecuteToolsResult(index=index, response=answer)
