"""Embeddings from the reasoning service."""

import asyncio
from collections.abc import Awaitable, Sequence
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.errors import ProviderFailed

Vectors = NDArray[np.float32]


class EmbedStub(Protocol):
    """The part of the reasoning service's stub that is used."""

    def Embed(self, request: pb.EmbedRequest, /, *, timeout: float) -> Awaitable[pb.EmbedResponse]:
        """Turns texts into vectors."""
        ...


class ReasoningEmbedder:
    """Embeds in batches. Queries do not wait for the passages of others."""

    def __init__(
        self,
        stub: EmbedStub,
        *,
        model: str,
        batch_size: int,
        in_flight: int,
        timeout_seconds: float,
    ) -> None:
        """At most `in_flight` batches of `batch_size` texts are out. `model` may be empty."""
        self._stub: Final = stub
        self._model: Final = model
        self._batch_size: Final = batch_size
        self._free: Final = asyncio.Semaphore(in_flight)
        self._timeout_seconds: Final = timeout_seconds

    async def embed_query(self, text: str) -> Vectors:
        """A vector of unit length. Raises DependencyUnavailable and what Embed raises."""
        return (await self._embed([text]))[0]

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        """A row of unit length for each text. The first batch that fails ends the others."""
        batches = [
            texts[start : start + self._batch_size]
            for start in range(0, len(texts), self._batch_size)
        ]
        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(self._embed_bounded(batch)) for batch in batches]
        except BaseExceptionGroup as failures:
            raise failures.exceptions[0] from None
        return np.concatenate([task.result() for task in tasks])

    async def _embed_bounded(self, texts: Sequence[str]) -> Vectors:
        async with self._free:
            return await self._embed(texts)

    async def _embed(self, texts: Sequence[str]) -> Vectors:
        request = pb.EmbedRequest(texts=texts, model=self._model)
        response = await self._stub.Embed(request, timeout=self._timeout_seconds)
        lengths = {len(each.values) for each in response.embeddings}
        if len(response.embeddings) != len(texts) or len(lengths) != 1:
            raise ProviderFailed(
                f"Model {response.model} gave {len(response.embeddings)} vectors of lengths "
                f"{sorted(lengths)} for {len(texts)} texts.",
                metadata={"provider": response.model},
            )
        vectors = np.array([each.values for each in response.embeddings], dtype=np.float32)
        # Of unit length by contract, up to rounding; the store relies on it.
        norms = np.linalg.norm(vectors, axis=1, keepdims=True)
        vectors /= np.where(norms > 0, norms, 1)
        return vectors
