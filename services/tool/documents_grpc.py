"""Documents behind the memory service."""

from collections.abc import Sequence
from typing import Final

from agentmesh.memory.v1 import memory_service_pb2 as pb
from agentmesh.memory.v1 import memory_service_pb2_grpc as pb_grpc
from meshkit import names
from services.tool.search_memory import Passage


class GrpcDocuments:
    """Searches on behalf of the identity of the call that is being served."""

    def __init__(self, stub: pb_grpc.MemoryServiceStub, *, timeout_seconds: float) -> None:
        self._stub: Final = stub
        self._timeout_seconds: Final = timeout_seconds

    async def search(self, tenant: str, query: str, limit: int) -> Sequence[Passage]:
        """The passages that fit best, best first. Raises DependencyUnavailable."""
        request = pb.SearchRequest(
            parent=names.TENANT.format(tenant=tenant), query=query, limit=limit
        )
        response = await self._stub.Search(request, timeout=self._timeout_seconds)
        return [
            Passage(each.citation, tuple(each.headings), each.text) for each in response.passages
        ]
