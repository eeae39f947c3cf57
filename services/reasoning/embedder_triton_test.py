"""What the embedder says when Triton is not there, or has another model."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import pytest_asyncio
from tritonclient.grpc import service_pb2, service_pb2_grpc

from meshkit.errors import DependencyUnavailable, ProviderFailed
from meshtest.child_server import binary, free_port
from models.minilm.embedder import PACKAGED_MODEL
from models.minilm.reference import MIN_COSINE, cosines, require_model
from models.triton_repository import RepositoryOptions
from models.triton_server import TritonOptions, running_triton
from services.reasoning.embedder_triton import TritonEmbedder


@pytest_asyncio.fixture
async def nobody() -> AsyncIterator[TritonEmbedder]:
    """An embedder whose server does not run."""
    embedder = TritonEmbedder(f"127.0.0.1:{free_port()}")
    yield embedder
    await embedder.close()


async def test_a_missing_server_is_a_failure_of_the_provider(nobody: TritonEmbedder) -> None:
    """The error names the server."""
    with pytest.raises(ProviderFailed, match=r"^Failed to embed texts on Triton at 127\.0\.0\.1:"):
        await nobody.embed(["text"])


async def test_a_missing_server_is_not_healthy(nobody: TritonEmbedder) -> None:
    """The check fails and names the dependency."""
    with pytest.raises(
        DependencyUnavailable, match=r"^Triton at 127\.0\.0\.1:\d+ does not answer"
    ) as raised:
        await nobody.check()
    assert raised.value.metadata == {"dependency": "triton"}
    assert nobody.name == "triton"


class _Empty:
    """A server of the protocol that has no models."""

    async def ModelReady(self, request: object, context: object) -> object:
        """Answers that the model is not ready."""
        return cast(Any, service_pb2).ModelReadyResponse(ready=False)

    def __getattr__(self, name: str) -> None:
        """Answers no other method."""


async def test_a_server_without_the_model_is_not_healthy() -> None:
    """The check fails and names the model."""
    server = grpc.aio.server()
    cast(Any, service_pb2_grpc).add_GRPCInferenceServiceServicer_to_server(_Empty(), server)
    port = server.add_insecure_port("127.0.0.1:0")
    await server.start()
    embedder = TritonEmbedder(f"127.0.0.1:{port}")
    with pytest.raises(DependencyUnavailable) as raised:
        await embedder.check()
    assert str(raised.value) == f"Triton at 127.0.0.1:{port} has no model text_embedder."
    await embedder.close()
    await server.stop(None)


async def test_it_embeds_with_the_model_that_it_is_given(tmp_path: Path) -> None:
    """The embedder of code is another model of the server; with the same weights it says the same.

    A call that was sent is answered, although the embedder was closed meanwhile.
    """
    require_model()
    repository = RepositoryOptions(code_embedder=PACKAGED_MODEL)
    options = TritonOptions(binary("TRITON_SERVER"), free_port(), repository=repository)
    code = "def add(left, right):\n    return left + right"
    async with running_triton(options, log_path=tmp_path / "triton.log") as triton:
        for_code = TritonEmbedder(triton.target, "code_embedder")
        await for_code.check()
        vectors = await for_code.embed([code] * 40)
        await for_code.close()
        embedder = TritonEmbedder(triton.target)
        await embedder.check()
        call = asyncio.ensure_future(embedder.embed([code]))
        await asyncio.sleep(0)  # lets it begin
        await embedder.close()
        expected = await call
    assert (expected.shape, vectors.shape) == ((1, 384), (40, 384))
    assert cosines(vectors, np.repeat(expected, 40, axis=0)).min() > MIN_COSINE
