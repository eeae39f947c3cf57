"""Passages in Qdrant: a folder that the client library keeps by itself, or a server.

Each tenant has a collection of its own. So no filter stands between tenants
that could be forgotten, and the common search needs no filter at all: those of
the local mode look at every payload in Python, and take fifteen times as long
as the search itself. A server with many thousands of tenants would rather have
one collection; that would change this file alone.

All calls go through threads: the local mode is blocking and not thread-safe,
so it has one. The library is imported there too, at first use: that takes a
second and 50 MB.
"""

import asyncio
import sqlite3
import threading
from collections.abc import Callable, Collection, Sequence
from concurrent.futures import ThreadPoolExecutor
from hashlib import sha256
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final, TypeVar, cast
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from meshkit.errors import DependencyUnavailable
from services.memory.document import Passage, Version
from services.memory.retrieval import Hit
from services.memory.slots import Slots

if TYPE_CHECKING:
    from qdrant_client import QdrantClient

Vectors = NDArray[np.float32]
T = TypeVar("T")

_SERVER_THREADS: Final = 8
_SERVER_TIMEOUT_SECONDS: Final = 10
_WAITING: Final = 256
# Searches get their turn between batches of this size.
_WRITE_BATCH: Final = 32


class QdrantVectors:
    """Passages with their vectors. Raises DependencyUnavailable and QueueFull."""

    def __init__(
        self, connect: Callable[[], "QdrantClient"], *, where: str, threads: int, is_server: bool
    ) -> None:
        """Rather use `local` or `server`. `connect` is called in a thread, at first use."""
        self._connect: Final = connect
        self._where: Final = where
        self._is_server: Final = is_server
        self._threads: Final = ThreadPoolExecutor(threads, thread_name_prefix="qdrant")
        self._slots: Final = Slots("searches and writes", active=threads, waiting=_WAITING)
        self._connecting: Final = threading.Lock()
        self._client: QdrantClient | None = None
        # How long the vectors are of collections that are known to exist.
        self._known: Final[dict[str, int]] = {}
        self._making: Final = threading.Lock()

    @classmethod
    def local(cls, folder: Path) -> "QdrantVectors":
        """In a folder of this machine, which one process at a time can use."""

        def connect() -> "QdrantClient":
            from qdrant_client import QdrantClient

            return QdrantClient(path=str(folder))

        return cls(connect, where=str(folder), threads=1, is_server=False)

    @classmethod
    def server(cls, url: str, api_key: str | None) -> "QdrantVectors":
        """On a Qdrant server."""

        def connect() -> "QdrantClient":
            from qdrant_client import QdrantClient

            return QdrantClient(
                url=url,
                api_key=api_key,
                timeout=_SERVER_TIMEOUT_SECONDS,
                check_compatibility=False,
            )

        return cls(connect, where=url, threads=_SERVER_THREADS, is_server=True)

    async def open(self) -> None:
        """Connects now instead of at first use."""
        await self._run(lambda client: None)

    async def close(self) -> None:
        """Lets go of folder or server, after what is under way."""

        def close() -> None:
            if self._client is not None:
                self._client.close()

        await asyncio.get_running_loop().run_in_executor(self._threads, close)
        self._threads.shutdown(wait=False)

    async def exists(self, tenant: str) -> bool:
        """Whether anything was ever stored for the tenant."""
        return await self._run(lambda client: self._length(client, _collection(tenant)) is not None)

    async def drop(self, tenant: str) -> None:
        """Removes all that the tenant has."""

        def drop(client: "QdrantClient") -> None:
            self._known.pop(_collection(tenant), None)
            client.delete_collection(_collection(tenant))

        await self._run(drop)

    async def store(
        self,
        tenant: str,
        document: str,
        version: Version,
        passages: Sequence[Passage],
        vectors: Vectors,
    ) -> None:
        """Stores the passages of a version; `vectors` has a row of unit length for each."""
        for start in range(0, len(passages), _WRITE_BATCH):
            end = min(start + _WRITE_BATCH, len(passages))
            await self._run(
                lambda client, start=start, end=end: self._write(
                    client, tenant, document, version, passages, vectors, range(start, end)
                )
            )

    async def remove(self, tenant: str, version: Version) -> None:
        """Removes the passages of a version, as far as they are there."""
        collection = _collection(tenant)

        def remove(client: "QdrantClient") -> None:
            # By id: a filter would look at everything.
            points = [_point_id(version, n) for n in range(version.passage_count)]
            if points and self._length(client, collection) is not None:
                client.delete(collection, points_selector=cast(Any, points), wait=True)

        await self._run(remove)

    async def search(
        self, tenant: str, vector: Vectors, *, limit: int, documents: Collection[str]
    ) -> Sequence[Hit]:
        """The `limit` passages nearest to `vector`, best first, of any version."""
        collection = _collection(tenant)

        def search(client: "QdrantClient") -> Sequence[Hit]:
            from qdrant_client import models

            if not self._has_passages(client, tenant, len(vector)):
                return ()
            only: models.Filter | None = None
            if documents:
                matches = models.MatchAny(any=sorted(documents))
                only = models.Filter(must=models.FieldCondition(key="document", match=matches))
            response = client.query_points(
                collection, query=vector.tolist(), query_filter=only, limit=limit, with_payload=True
            )
            return [_hit(point) for point in response.points]

        return await self._run(search)

    def _length(self, client: "QdrantClient", collection: str) -> int | None:
        """How long the vectors of a collection are; None where there is none."""
        length = self._known.get(collection)
        if length is None and client.collection_exists(collection):
            params: Any = client.get_collection(collection).config.params
            length = self._known[collection] = int(params.vectors.size)
        return length

    def _has_passages(self, client: "QdrantClient", tenant: str, dimensions: int) -> bool:
        """Whether there may be some to compare with vectors of this length.

        Raises DependencyUnavailable where those that there are have vectors of another one.
        """
        collection = _collection(tenant)
        length = self._length(client, collection)
        if length is None or length == dimensions:
            return length is not None
        if client.count(collection).count:
            # Another process may make it anew.
            self._known.pop(collection, None)
            raise self._unavailable(
                f"The documents of tenants/{tenant} are there with vectors of {length} numbers, and"
                f" the embedding model makes {dimensions}. Set memory.embedding_model to the one"
                " that they were added with, or delete them all and add them again."
            )
        return False

    def _write(
        self,
        client: "QdrantClient",
        tenant: str,
        document: str,
        version: Version,
        passages: Sequence[Passage],
        vectors: Vectors,
        numbers: range,
    ) -> None:
        from qdrant_client import models

        collection = _collection(tenant)
        with self._making:
            if not self._has_passages(client, tenant, vectors.shape[1]):
                self._create(client, collection, vectors.shape[1])
        points = [
            models.PointStruct(
                id=_point_id(version, n),
                vector=vectors[n].tolist(),
                payload=_payload(document, version, passages[n]),
            )
            for n in numbers
        ]
        client.upsert(collection, points, wait=True)

    def _create(self, client: "QdrantClient", collection: str, dimensions: int) -> None:
        from qdrant_client import models

        # The product of unit vectors is their cosine; the local mode's own
        # cosine makes every stored vector of unit length again at each search.
        config = models.VectorParams(size=dimensions, distance=models.Distance.DOT)
        if self._known.pop(collection, None) is not None:
            # Empty, and made for another embedding model.
            client.delete_collection(collection)
        try:
            client.create_collection(collection, vectors_config=config)
        except Exception:
            # Another process may have been faster.
            if not client.collection_exists(collection):
                raise
        if self._is_server:
            client.create_payload_index(
                collection, "document", field_schema=models.PayloadSchemaType.KEYWORD
            )
        self._known[collection] = dimensions

    async def _run(self, job: Callable[["QdrantClient"], T]) -> T:
        async with self._slots:
            loop = asyncio.get_running_loop()
            return await loop.run_in_executor(self._threads, self._guarded, job)

    def _guarded(self, job: Callable[["QdrantClient"], T]) -> T:
        with self._connecting:
            client = self._client or self._open_client()
        from qdrant_client.http.exceptions import ApiException

        try:
            return job(client)
        except (OSError, sqlite3.Error, ApiException) as error:
            raise self._unavailable(
                f"Failed to use the vectors in {self._where}: {error}"
            ) from error

    def _open_client(self) -> "QdrantClient":
        try:
            self._client = self._connect()
        except RuntimeError as error:
            # What the local mode says of a folder that is locked.
            raise self._unavailable(
                f"Failed to open the vectors in {self._where}: another process uses them. "
                "Stop it, or choose another data directory."
            ) from error
        except (OSError, sqlite3.Error) as error:
            raise self._unavailable(
                f"Failed to open the vectors in {self._where}: {error}"
            ) from error
        return self._client

    def _unavailable(self, text: str) -> DependencyUnavailable:
        return DependencyUnavailable(text, metadata={"dependency": "qdrant"})


def _collection(tenant: str) -> str:
    return f"knowledge-{tenant}"


def _point_id(version: Version, number: int) -> str:
    digest = sha256(f"{version.id}:{number}".encode()).digest()
    return str(UUID(bytes=digest[:16]))


def _payload(document: str, version: Version, passage: Passage) -> dict[str, Any]:
    return {
        "document": document,
        "version": version.id,
        "text": passage.text,
        "headings": list(passage.headings),
        "start_line": passage.start_line,
        "end_line": passage.end_line,
        "page": passage.page,
    }


def _hit(point: Any) -> Hit:
    payload: dict[str, Any] = point.payload
    passage = Passage(
        text=payload["text"],
        headings=tuple(payload["headings"]),
        start_line=payload["start_line"],
        end_line=payload["end_line"],
        page=payload["page"],
    )
    return Hit(payload["document"], payload["version"], passage, float(point.score))
