"""For tests: the memory service as its composition root builds it, behind a real server."""

from collections.abc import AsyncGenerator
from contextlib import AbstractContextManager, asynccontextmanager
from pathlib import Path
from typing import Final

from agentmesh.memory.v1 import memory_service_pb2 as pb
from agentmesh.memory.v1 import memory_service_pb2_grpc as pb_grpc
from agentmesh.memory.v1.document_pb2 import DocumentSource, Passage, UpsertedDocument
from meshkit import identity
from meshkit.identity import Identity
from meshkit.server import Registration
from meshtest.hosting import hosting
from services.memory.main import build
from services.memory.settings import MemorySettings

_TIMEOUT_SECONDS: Final = 30.0


class Client:
    """Calls memory for one tenant."""

    def __init__(self, stub: pb_grpc.MemoryServiceStub, tenant: str) -> None:
        self.stub: Final = stub
        self.tenant: Final = tenant
        self.parent: Final = f"tenants/{tenant}"

    async def upsert(self, *sources: DocumentSource) -> list[UpsertedDocument]:
        """What became of each."""
        request = pb.UpsertDocumentsRequest(parent=self.parent, documents=sources)
        with self._identity():
            response = await self.stub.UpsertDocuments(request, timeout=_TIMEOUT_SECONDS)
        return list(response.results)

    async def add(self, uri: str, text: str) -> UpsertedDocument:
        """What became of one document."""
        (result,) = await self.upsert(DocumentSource(uri=uri, content=text.encode()))
        return result

    async def delete(self, *names: str) -> int:
        """How many there were."""
        request = pb.DeleteDocumentsRequest(parent=self.parent, names=names)
        with self._identity():
            response = await self.stub.DeleteDocuments(request, timeout=_TIMEOUT_SECONDS)
        return response.deleted_count

    async def find(self, query: str, limit: int = 0, **fields: object) -> pb.SearchResponse:
        """The whole answer."""
        request = pb.SearchRequest(parent=self.parent, query=query, limit=limit, **fields)  # type: ignore[arg-type]
        with self._identity():
            return await self.stub.Search(request, timeout=_TIMEOUT_SECONDS)

    async def search(self, query: str, limit: int = 0, **fields: object) -> list[Passage]:
        """The passages."""
        return list((await self.find(query, limit, **fields)).passages)

    def _identity(self) -> AbstractContextManager[Identity]:
        return identity.use(Identity(self.tenant, "user:test"))


@asynccontextmanager
async def hosted_memory(
    nats_url: str,
    redis_url: str,
    data_dir: Path,
    reasoning: Registration,
    settings: MemorySettings | None = None,
) -> AsyncGenerator[Client]:
    """Memory, to be called for the tenant `acme`; `reasoning` is what it asks for vectors."""
    section = settings or MemorySettings()
    async with hosting(
        [lambda resources: build(resources, section)],
        data_dir=data_dir,
        nats_url=nats_url,
        redis_url=redis_url,
        beside=[reasoning],
    ) as channels:
        yield Client(pb_grpc.MemoryServiceStub(channels.get("memory")), "acme")
