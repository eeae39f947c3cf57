"""Turns texts into vectors."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import TYPE_CHECKING, Protocol

from services.reasoning.model import ModelSpec

if TYPE_CHECKING:
    import numpy as np
    from numpy.typing import NDArray


class Embedder(Protocol):
    """Runs an embedding model: one adapter each."""

    async def embed(self, texts: Sequence[str]) -> "NDArray[np.float32]":
        """Unit vectors `[len(texts), dimensions]`, in the order of the texts, one at least.

        Raises ProviderFailed where the model cannot be reached or run.
        """
        ...


@dataclass(frozen=True, slots=True)
class EmbeddingModel:
    """An embedding model, and what runs it."""

    spec: ModelSpec
    embedder: Embedder


@dataclass(frozen=True, slots=True)
class Embeddings:
    """The vectors of some texts."""

    vectors: Sequence[Sequence[float]]
    model: str
    # Estimated.
    input_tokens: int
