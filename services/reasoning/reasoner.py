"""The reasoning service's rules: which model a request goes to."""

from collections.abc import AsyncGenerator, Sequence
from typing import Final

from meshkit.errors import ModelNotFound
from services.reasoning.catalogue import Catalogue
from services.reasoning.embedding import EmbeddingModel, Embeddings
from services.reasoning.generation import Generation, GenerationRequest, Generator, ModelCall
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.token_estimate import text_tokens


class Reasoner:
    """Answers conversations and embeds texts with the configured models."""

    def __init__(
        self, catalogue: Catalogue, generator: Generator, embeddings: Sequence[EmbeddingModel]
    ) -> None:
        """`generator` makes the calls: a chain of wrappers around the providers.

        `embeddings`: what can embed; the first of them does unless another is named.
        """
        self._catalogue: Final = catalogue
        self._generator: Final = generator
        self._embeddings: Final = {each.spec.name: each.embedder for each in embeddings}
        self._default_embedding: Final = embeddings[0].spec.name

    async def generate(self, request: GenerationRequest) -> Generation:
        """The model's next message. Raises ModelNotFound and what the call raises."""
        return await self._generator.generate(self._call(request))

    def stream(self, request: GenerationRequest) -> AsyncGenerator[str | Generation]:
        """The text in pieces, then everything. Raises as `generate`."""
        return self._generator.stream(self._call(request))

    async def embed(self, texts: Sequence[str], model: str) -> Embeddings:
        """The vectors of `texts`. Raises ModelNotFound, ProviderFailed."""
        name = model or self._default_embedding
        embedder = self._embeddings.get(name)
        if embedder is None:
            known = ", ".join(self._embeddings)
            raise ModelNotFound(
                f"There is no embedding model {name[:80]!r}. Known: {known}.",
                metadata={"model": name[:80]},
            )
        vectors = await embedder.embed(texts)
        return Embeddings(vectors.tolist(), name, sum(map(text_tokens, texts)))

    def models(self, tier: Tier | None) -> Sequence[tuple[ModelSpec, Tier | None]]:
        """The configured models in order of tier and preference, each with its tier."""
        return self._catalogue.listed(tier)

    def _call(self, request: GenerationRequest) -> ModelCall:
        model, tier = self._catalogue.route(request.model, request.tier)
        return ModelCall(request.prompt, model, tier, request.spending, named=bool(request.model))
