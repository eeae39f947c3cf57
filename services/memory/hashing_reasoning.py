"""For tests: a reasoning service whose vectors are counts of hashed words."""

import re
from hashlib import sha256
from typing import Any, Final

import numpy as np

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit.errors import MeshError
from meshkit.server import Registration

_DIMENSIONS: Final = 128
_WORD: Final = re.compile(r"\w{3,}")


def hashing_reasoning() -> "HashingReasoning":
    """A new one."""
    # It embeds and does nothing else.
    return HashingReasoning()  # pyright: ignore[reportAbstractUsage]


class HashingReasoning(pb_grpc.ReasoningServiceServicer):
    """Embeds; texts are near to each other where they share words. Remembers the texts."""

    def __init__(self) -> None:
        self.batches: list[list[str]] = []
        # Raised instead of an answer.
        self.fault: MeshError | None = None

    @property
    def texts(self) -> list[str]:
        """All texts embedded so far."""
        return [text for batch in self.batches for text in batch]

    async def Embed(self, request: pb.EmbedRequest, context: Any) -> pb.EmbedResponse:
        """A vector for each text."""
        if self.fault is not None:
            raise self.fault
        self.batches.append(list(request.texts))
        embeddings = [pb.Embedding(values=_vector(text)) for text in request.texts]
        return pb.EmbedResponse(embeddings=embeddings, model="hashing")

    def registration(self) -> Registration:
        """How it is served."""
        return Registration(
            service_name="agentmesh.reasoning.v1.ReasoningService",
            add=pb_grpc.add_ReasoningServiceServicer_to_server,
            servicer=self,
        )


def _vector(text: str) -> list[float]:
    vector = np.zeros(_DIMENSIONS, np.float32)
    vector[0] = 1e-3  # a text without words has a direction, too
    for word in _WORD.findall(text.lower()):
        digest = sha256(word.encode()).digest()
        vector[1 + int.from_bytes(digest[:4], "big") % (_DIMENSIONS - 1)] += 1
    return (vector / np.linalg.norm(vector)).tolist()
