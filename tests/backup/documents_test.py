"""Documents and vectors that were saved at two moments agree after a restore."""

import hashlib
import sqlite3
from contextlib import closing
from datetime import UTC, datetime
from pathlib import Path

import numpy as np

from backup import documents, places
from meshkit import redis_store
from meshkit.ids import RandomIds
from meshtest.redis_server import RedisServer
from services.memory.document import Document, Passage, Version
from services.memory.registry_redis import RedisRegistry
from services.memory.vectors_qdrant import QdrantVectors

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 11, 21, tzinfo=UTC)
_EAST = np.array([1.0, 0.0], np.float32)


def _document(name: str, version: Version) -> Document:
    return Document(
        id=name,
        uri=f"{name}.md",
        title=name,
        media_type="text/markdown",
        digest=hashlib.sha256(name.encode()).hexdigest(),
        recipe="1",
        version=version,
        size_bytes=1,
        update_time=_NOW,
        labels={},
    )


async def _store(vectors: QdrantVectors, name: str, version: Version) -> None:
    passages = [Passage(f"{name} {each}", (), 1, 1, 0) for each in range(version.passage_count)]
    rows = np.stack([_EAST] * version.passage_count)
    await vectors.store("acme", name, version, passages, rows)


async def _put(
    registry: RedisRegistry, vectors: QdrantVectors, name: str, version: Version
) -> None:
    await registry.begin("acme", version, _NOW)
    await _store(vectors, name, version)
    assert await registry.publish("acme", _document(name, version), None, _NOW)


async def test_what_counts_has_its_passages_and_nothing_else_is_left(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A document whose passages are not all there is forgotten, and told; strangers go."""
    redis = redis_store.connect(redis_server.url)
    registry = RedisRegistry(redis, RandomIds())
    vectors = QdrantVectors.local(tmp_path / places.VECTORS)
    await registry.open("acme")
    await _put(registry, vectors, "kept", Version("v1", 2))
    await _put(registry, vectors, "replaced", Version("v2", 2))
    # Stored after Redis was saved: nobody knows of it.
    await _store(vectors, "later", Version("v3", 1))
    # The passages of one version were removed before the vectors were saved.
    await vectors.remove("acme", Version("v2", 1))
    await vectors.close()
    before = await registry.knowledge("acme")

    assert await documents.agree(redis, tmp_path) == ["replaced.md"]

    known = await registry.documents("acme", ["kept", "replaced", "later"])
    assert list(known) == ["kept"]
    after = await registry.knowledge("acme")
    assert before is not None
    assert after is not None
    assert after.count == before.count + 1
    vectors = QdrantVectors.local(tmp_path / places.VECTORS)
    hits = await vectors.search("acme", _EAST, limit=10, documents=())
    # What is left of the one goes with the tenant's next document.
    assert sorted(each.passage.text for each in hits) == ["kept 0", "kept 1", "replaced 1"]
    (left,) = await registry.abandoned("acme", _NOW)
    assert left == Version("v2", 2)
    await vectors.close()
    # Once more changes nothing.
    assert await documents.agree(redis, tmp_path) == []
    await redis.aclose()


async def test_a_replaced_document_is_noticed_while_it_is_saved(
    redis_server: RedisServer, tmp_path: Path
) -> None:
    """A new one is no matter: its passages were there before it counted."""
    redis = redis_store.connect(redis_server.url)
    registry = RedisRegistry(redis, RandomIds())
    vectors = QdrantVectors.local(tmp_path / places.VECTORS)
    await _put(registry, vectors, "one", Version("v1", 1))
    before = await documents.counting(redis)
    await _put(registry, vectors, "two", Version("v2", 1))
    assert not before - await documents.counting(redis)
    assert await registry.publish(
        "acme", _document("one", await _begun(registry)), Version("v1", 1), _NOW
    )
    gone = before - await documents.counting(redis)
    assert gone == {documents.Standing("acme", "one", "v1:1")}
    await vectors.close()
    await redis.aclose()


async def _begun(registry: RedisRegistry) -> Version:
    version = Version("v3", 1)
    await registry.begin("acme", version, _NOW)
    return version


async def test_vectors_are_copied_while_they_are_used(tmp_path: Path) -> None:
    """The databases that a backup copies are those that the client library keeps."""
    vectors = QdrantVectors.local(tmp_path / places.VECTORS)
    await _store(vectors, "one", Version("v1", 3))
    (place,) = places.vectors(tmp_path)
    assert place == "qdrant/collection/knowledge-acme/storage.sqlite"
    with closing(sqlite3.connect(tmp_path / place)) as connection:
        assert connection.execute("SELECT count(*) FROM points").fetchone() == (3,)
    await vectors.close()
