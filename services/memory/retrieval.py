"""Finding passages.

The registry says which version of a document counts, the store has the
passages; they are asked one after the other. Documents that change in between
are noticed, and the search is made again, so that the answer is true of one
moment.
"""

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from meshkit.errors import DependencyUnavailable
from services.memory.document import Document, Passage

_ATTEMPTS: Final = 5
# What a tenant without knowledge is said to have searched.
NO_KNOWLEDGE: Final = "0"

Vector = NDArray[np.float32]


@dataclass(frozen=True, slots=True)
class Query:
    """What is looked for."""

    text: str
    limit: int
    # Passages of a lower score are left out; from 0 to 1.
    min_score: float
    # Ids of the documents to look in; empty for all.
    documents: frozenset[str]


@dataclass(frozen=True, slots=True)
class Hit:
    """A stored passage of some version of a document."""

    document: str
    version: str
    passage: Passage
    # Cosine of the angle between passage and query.
    score: float


@dataclass(frozen=True, slots=True)
class Found:
    """A passage that fits, and the document it is from."""

    document: Document
    passage: Passage
    # From 0 to 1.
    score: float


@dataclass(frozen=True, slots=True)
class Knowledge:
    """The state of a tenant's knowledge: each change gives the next `count`."""

    # Another one after the registry lost its data.
    epoch: str
    count: int

    @property
    def version(self) -> str:
        """As clients see it."""
        return f"{self.epoch}.{self.count}"


@dataclass(frozen=True, slots=True)
class Current:
    """The version of a document that counts."""

    document: Document
    # The state of the knowledge that it came with.
    since: int


@dataclass(frozen=True, slots=True)
class Findings:
    """The passages that fit, best first, and the version of the knowledge that was searched."""

    found: Sequence[Found]
    knowledge_version: str


class Registry(Protocol):
    """Says which version of each document counts."""

    async def knowledge(self, tenant: str) -> Knowledge | None:
        """The state of the tenant's knowledge; None where there never was any."""
        ...

    async def current(self, tenant: str, ids: Collection[str]) -> Mapping[str, Current]:
        """What counts of these documents, all at one moment."""
        ...


class PassageIndex(Protocol):
    """Finds stored passages."""

    async def search(
        self, tenant: str, vector: Vector, *, limit: int, documents: Collection[str]
    ) -> Sequence[Hit]:
        """The `limit` passages nearest to `vector`, best first, of any version."""
        ...


class Embedder(Protocol):
    """Turns a query into a vector."""

    async def embed_query(self, text: str) -> Vector:
        """A vector of unit length; DependencyUnavailable where that fails."""
        ...


class Retrieval:
    """The tenants' documents, from the side that reads."""

    def __init__(self, *, embedder: Embedder, registry: Registry, index: PassageIndex) -> None:
        self._embedder: Final = embedder
        self._registry: Final = registry
        self._index: Final = index

    async def search(self, tenant: str, query: Query) -> Findings:
        """The passages that fit best. Raises DependencyUnavailable."""
        before = await self._registry.knowledge(tenant)
        if before is None or before.count == 0:
            return Findings((), before.version if before else NO_KNOWLEDGE)
        vector = await self._embedder.embed_query(query.text)
        for _ in range(_ATTEMPTS):
            before = await self._registry.knowledge(tenant)
            if before is None:
                return Findings((), NO_KNOWLEDGE)
            found = await self._search_once(tenant, query, vector, before)
            if found is not None:
                return Findings(found, before.version)
        raise DependencyUnavailable(
            f"The documents that fit changed during each of {_ATTEMPTS} searches; try again.",
            retry_after_seconds=1.0,
        )

    async def _search_once(
        self, tenant: str, query: Query, vector: Vector, before: Knowledge
    ) -> Sequence[Found] | None:
        """None where a document that fits was replaced since `before`."""
        limit = query.limit
        while True:
            hits = await self._index.search(tenant, vector, limit=limit, documents=query.documents)
            current = await self._registry.current(tenant, {hit.document for hit in hits})
            if any(each.since > before.count for each in current.values()):
                return None
            found = [
                Found(current[hit.document].document, hit.passage, min(1.0, max(0.0, hit.score)))
                for hit in hits
                if hit.document in current
                and current[hit.document].document.version.id == hit.version
            ]
            if len(found) >= query.limit or len(hits) < limit:
                fitting = [each for each in found if each.score >= query.min_score]
                return fitting[: query.limit]
            # Passages that do not count took the place of some that do.
            limit *= 2
