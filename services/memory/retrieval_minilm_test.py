"""Retrieval with the real embedding model: questions that share few words with their answers."""

import asyncio
from pathlib import Path
from typing import Any

import pytest

from agentmesh.memory.v1.document_pb2 import DocumentSource
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit.server import Registration
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from models.minilm.embedder import PACKAGED_MODEL, MiniLmEmbedder
from services.memory.hosted_memory import hosted_memory

pytest_plugins = ["meshtest.fixtures"]

_TESTDATA = Path(__file__).with_name("testdata")
_QUESTIONS = [
    ("Why does my client get too many requests errors?", "gateway.md", 6, 10),
    ("How do I reboot the proxy without cutting people off?", "gateway.md", 17, 26),
    ("What happens when a TLS cert cannot be refreshed?", "gateway.md", 12, 15),
    ("We paid the same bill two times", "billing.md", 8, 12),
    ("How do I get rid of limescale?", "coffee.txt", 1, 6),
    ("My hardware token is gone", "access.html", 11, 13),
    ("How long may I log in to live servers?", "access.html", 8, 10),
]


class MiniLm(pb_grpc.ReasoningServiceServicer):
    """Embeds as the reasoning service does in the prototype."""

    def __init__(self) -> None:
        self._model = MiniLmEmbedder()

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """A vector for each text."""
        vectors = await asyncio.to_thread(self._model.embed, request.texts)
        embeddings = [pb.Embedding(values=row.tolist()) for row in vectors]
        return pb.EmbedResponse(embeddings=embeddings, model="minilm-l6-v2")


@pytest.mark.skipif(
    not PACKAGED_MODEL.is_dir(), reason=f"{PACKAGED_MODEL} is not there; the build makes it"
)
async def test_answers_are_found_where_they_stand(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> None:
    """The first passage found is the one with the answer, with its lines."""
    reasoning = Registration(
        service_name="agentmesh.reasoning.v1.ReasoningService",
        add=pb_grpc.add_ReasoningServiceServicer_to_server,
        servicer=MiniLm(),  # pyright: ignore[reportAbstractUsage]
    )
    async with hosted_memory(nats_server.url, redis_server.url, tmp_path, reasoning) as memory:
        await memory.upsert(
            *(
                DocumentSource(uri=name, content=(_TESTDATA / name).read_bytes())
                for name in ("gateway.md", "billing.md", "coffee.txt", "access.html")
            )
        )
        found = [(await memory.search(question))[0].citation for question, *_ in _QUESTIONS]
    assert [(each.uri, each.start_line, each.end_line) for each in found] == [
        (uri, start, end) for _, uri, start, end in _QUESTIONS
    ]
