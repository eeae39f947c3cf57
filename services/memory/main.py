"""Memory's composition root."""

from typing import Final

from agentmesh.memory.v1 import memory_service_pb2_grpc as pb_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc
from meshkit.redis_store import RedisDependency
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from services.memory import document_reader
from services.memory.document_reader import DocumentReader
from services.memory.embedder_reasoning import ReasoningEmbedder
from services.memory.ingestion import Ingestion
from services.memory.parser_html import HtmlDocumentParser
from services.memory.parser_markdown import MarkdownParser
from services.memory.parser_pdf import PdfDocumentParser
from services.memory.parser_text import TextParser
from services.memory.registry_redis import RedisRegistry
from services.memory.retrieval import Retrieval
from services.memory.service import MemoryService
from services.memory.session import Sessions
from services.memory.session_store_redis import RedisSessionStore
from services.memory.settings import MemorySettings, Settings
from services.memory.slots import Slots
from services.memory.splitter import Splitter
from services.memory.vectors_qdrant import QdrantVectors

_WAITING_UPSERTS: Final = 32


async def build(resources: Resources, section: MemorySettings) -> Service:
    """Memory on these resources."""
    vectors = _vectors(resources, section)
    resources.stack.push_async_callback(vectors.close)
    registry = RedisRegistry(resources.redis, resources.ids)
    embedder = ReasoningEmbedder(
        reasoning_service_pb2_grpc.ReasoningServiceStub(resources.channels.get("reasoning")),
        model=section.embedding_model,
        batch_size=section.embedding_batch,
        in_flight=section.embedding_calls,
        timeout_seconds=section.embedding_timeout_seconds,
    )
    # What it lacks is answered by the server: not implemented yet.
    service = MemoryService(  # pyright: ignore[reportAbstractUsage]
        sessions=Sessions(
            RedisSessionStore(resources.redis, max_messages=section.session_messages)
        ),
        ingestion=Ingestion(
            reader=DocumentReader(
                {
                    document_reader.MARKDOWN: MarkdownParser(),
                    document_reader.TEXT: TextParser(),
                    document_reader.HTML: HtmlDocumentParser(),
                    document_reader.PDF: PdfDocumentParser(),
                }
            ),
            splitter=Splitter(
                target_tokens=section.passage_tokens, overlap_tokens=section.overlap_tokens
            ),
            embedder=embedder,
            registry=registry,
            store=vectors,
            clock=resources.clock,
            ids=resources.ids,
            recipe=f"{section.passage_tokens}:{section.overlap_tokens}:{section.embedding_model}",
            slots=Slots(
                "upserts of documents",
                active=section.concurrent_upserts,
                waiting=_WAITING_UPSERTS,
            ),
        ),
        retrieval=Retrieval(embedder=embedder, registry=registry, index=vectors),
    )

    async def open_vectors() -> None:
        await resources.clock.sleep(section.open_vectors_after_seconds)
        await vectors.open()

    return Service(
        registrations=[
            Registration(
                service_name="agentmesh.memory.v1.MemoryService",
                add=pb_grpc.add_MemoryServiceServicer_to_server,
                servicer=service,
                dependencies=[RedisDependency(resources.redis)],
            )
        ],
        background=[open_vectors],
    )


def _vectors(resources: Resources, section: MemorySettings) -> QdrantVectors:
    if section.qdrant_url is None:
        return QdrantVectors.local(resources.data_dir / "qdrant")
    key = section.qdrant_api_key
    return QdrantVectors.server(section.qdrant_url, key.get_secret_value() if key else None)


def main() -> None:
    """Runs memory as a process of its own."""
    serve_program("memory", Settings, lambda resources, s: build(resources, s.memory))


if __name__ == "__main__":
    main()
