"""Documents behind the memory service."""

from collections.abc import Sequence
from typing import Final

from agentmesh.memory.v1 import memory_service_pb2 as pb
from agentmesh.memory.v1 import memory_service_pb2_grpc as pb_grpc
from meshkit import names
from meshkit.errors import InvalidField
from services.tool.search_memory import Passage
from services.tool.tool import ToolFault


class GrpcDocuments:
    """Searches on behalf of the identity of the call that is being served."""

    def __init__(self, stub: pb_grpc.MemoryServiceStub, *, timeout_seconds: float) -> None:
        self._stub: Final = stub
        self._timeout_seconds: Final = timeout_seconds

    async def search(self, tenant: str, query: str, limit: int) -> Sequence[Passage]:
        """The passages that fit best, best first. Raises DependencyUnavailable and ToolFault."""
        request = pb.SearchRequest(
            parent=names.TENANT.format(tenant=tenant), query=query, limit=limit
        )
        try:
            response = await self._stub.Search(request, timeout=self._timeout_seconds)
        except InvalidField as error:
            # The query is the model's, and so is the next one: no fault of who executes it.
            raise ToolFault(f"The search was refused: {error}") from error
        return [
            Passage(each.citation, tuple(each.headings), each.text) for each in response.passages
        ]
