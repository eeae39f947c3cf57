"""Embeds on a Triton server, by any of its models that takes texts and gives vectors."""

from collections.abc import Iterator, Sequence
from typing import Any, Final, cast

import numpy as np
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from meshkit.errors import DependencyUnavailable, ProviderFailed
from services.reasoning.embedding_admission import EmbeddingAdmission

# About as much as the server computes in one go. It joins what several callers
# send at the same time by itself.
_MAX_REQUEST_TEXTS: Final = 32
_MAX_REQUEST_CHARACTERS: Final = 4_000
_CHECK_SECONDS: Final = 1.0


class TritonEmbedder:
    """A client of one model of one Triton server. Make it inside the event loop."""

    def __init__(
        self, target: str, model: str = "text_embedder", *, max_waiting_texts: int = 4096
    ) -> None:
        """Makes the client, which connects when it is first needed.

        Args:
            target: host:port of the gRPC endpoint.
            model: As the server calls it.
            max_waiting_texts: Without an answer, beyond which QueueFull is raised.
        """
        self._target: Final = target
        self._model: Final = model
        # Any, here and below: the package has no types.
        self._client: Final = cast(Any, InferenceServerClient(target))
        self._admission: Final = EmbeddingAdmission(max_waiting_texts)

    @property
    def name(self) -> str:
        """What health checks call it."""
        return "triton"

    async def embed(
        self, texts: Sequence[str], *, timeout_seconds: float = 120.0
    ) -> NDArray[np.float32]:
        """Unit vectors `[len(texts), dimensions]`, in the order of `texts`, one at least.

        Raises what EmbeddingAdmission.admit does, and ProviderFailed where the
        server cannot be reached or fails.
        """
        vectors: list[NDArray[np.float32]] = []
        async with self._admission.admit(texts, timeout_seconds):
            # One request after the other, so that callers take turns.
            for part in _parts(texts):
                self._admission.check_open()
                vectors.append(await self._infer(part))
        return np.concatenate(vectors)

    async def check(self) -> None:
        """Raises DependencyUnavailable where the server or its model is not ready."""
        try:
            ready = await self._client.is_model_ready(self._model, client_timeout=_CHECK_SECONDS)
        except InferenceServerException as error:
            raise self._unavailable(f"does not answer: {_text(error)}") from error
        if not ready:
            raise self._unavailable(f"has no model {self._model}")

    async def close(self) -> None:
        """Waits for the requests that are out; calls with more to send get ShuttingDown."""
        self._admission.close()
        await self._admission.emptied()
        await self._client.close()

    async def _infer(self, texts: Sequence[str]) -> NDArray[np.float32]:
        encoded = cast(Any, InferInput("TEXT", [len(texts), 1], "BYTES"))
        encoded.set_data_from_numpy(np.array([[text.encode()] for text in texts], np.object_))
        try:
            answer = await self._client.infer(self._model, [encoded])
        except InferenceServerException as error:
            raise ProviderFailed(
                f"Failed to embed texts on Triton at {self._target}: {_text(error)}",
                metadata={"provider": "triton"},
            ) from error
        return answer.as_numpy("EMBEDDING")

    def _unavailable(self, what: str) -> DependencyUnavailable:
        return DependencyUnavailable(
            f"Triton at {self._target} {what}.", metadata={"dependency": "triton"}
        )


def _text(error: InferenceServerException) -> str:
    return str(cast(Any, error).message())


def _parts(texts: Sequence[str]) -> Iterator[Sequence[str]]:
    """Runs of `texts` that are small enough for a request, in order."""
    start = characters = 0
    for end, text in enumerate(texts):
        full = end - start == _MAX_REQUEST_TEXTS or characters >= _MAX_REQUEST_CHARACTERS
        if full:
            yield texts[start:end]
            start, characters = end, 0
        characters += len(text)
    if start < len(texts):
        yield texts[start:]
