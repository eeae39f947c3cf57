"""The MemoryService of the contract. What is missing here is served by a later version."""

from typing import Final

from agentmesh.memory.v1 import memory_service_pb2 as pb
from agentmesh.memory.v1 import memory_service_pb2_grpc as pb_grpc
from services.memory import convert
from services.memory.ingestion import Ingestion
from services.memory.retrieval import Retrieval
from services.memory.session import Sessions


class MemoryService(pb_grpc.MemoryServiceServicer):
    """Decodes, asks sessions or documents, encodes."""

    def __init__(self, sessions: Sessions, ingestion: Ingestion, retrieval: Retrieval) -> None:
        self._sessions: Final = sessions
        self._ingestion: Final = ingestion
        self._retrieval: Final = retrieval

    async def AppendMessages(
        self, request: pb.AppendMessagesRequest, context: object
    ) -> pb.AppendMessagesResponse:
        """Adds messages to a session."""
        count = await self._sessions.append(convert.append(request))
        return pb.AppendMessagesResponse(message_count=count)

    async def GetContext(
        self, request: pb.GetContextRequest, context: object
    ) -> pb.GetContextResponse:
        """The newest messages of a session that fit."""
        tenant, session = convert.session(request.session)
        newest = await self._sessions.context(
            tenant, session, max_tokens=convert.max_tokens(request)
        )
        return convert.context_response(newest)

    async def UpsertDocuments(
        self, request: pb.UpsertDocumentsRequest, context: object
    ) -> pb.UpsertDocumentsResponse:
        """Stores documents that are new or changed."""
        tenant = convert.tenant_of(request.parent)
        results = await self._ingestion.upsert(tenant, convert.sources(request))
        return convert.upsert_response(tenant, results)

    async def DeleteDocuments(
        self, request: pb.DeleteDocumentsRequest, context: object
    ) -> pb.DeleteDocumentsResponse:
        """Removes documents."""
        tenant, documents = convert.deletion(request)
        return pb.DeleteDocumentsResponse(
            deleted_count=await self._ingestion.delete(tenant, documents)
        )

    async def Search(self, request: pb.SearchRequest, context: object) -> pb.SearchResponse:
        """Finds passages."""
        tenant, query = convert.query(request)
        findings = await self._retrieval.search(tenant, query)
        return convert.search_response(tenant, query.text, findings)
