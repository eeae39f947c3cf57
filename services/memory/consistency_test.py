"""What searches see while documents change, and after calls that were cut off.

Real Redis and Qdrant; a wrapper cuts off or gets in between at a given point.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

import numpy as np
import pytest
from numpy.typing import NDArray

from meshkit import redis_store
from meshkit.errors import DependencyUnavailable
from meshtest.clock import FakeClock
from meshtest.ids import FakeIds
from meshtest.redis_server import RedisServer
from services.memory.document import Outcome, Passage, Source, Version
from services.memory.document_reader import MARKDOWN, DocumentReader
from services.memory.ingestion import Ingestion
from services.memory.parser_markdown import MarkdownParser
from services.memory.registry_redis import RedisRegistry
from services.memory.retrieval import Hit, Query, Retrieval
from services.memory.slots import Slots
from services.memory.splitter import Splitter
from services.memory.vectors_qdrant import QdrantVectors

pytest_plugins = ["meshtest.fixtures"]

_HOUR_SECONDS: Final = 3_600.0
Vectors = NDArray[np.float32]
Hook = Callable[[], Awaitable[None]]


class CutOff(Exception):
    """Stands for the end of the process."""


async def _cut_off() -> None:
    raise CutOff


class SameVectors:
    """An embedder for which all texts are alike."""

    async def embed_query(self, text: str) -> Vectors:
        return np.array([1.0, 0.0], np.float32)

    async def embed_passages(self, texts: Sequence[str]) -> Vectors:
        return np.tile(np.array([1.0, 0.0], np.float32), (len(texts), 1))


class Interrupted:
    """The store, with something that happens at a point, once unless it sets itself again."""

    def __init__(self, vectors: QdrantVectors) -> None:
        self.vectors: Final = vectors
        self.after_store: Hook | None = None
        self.before_remove: Hook | None = None
        self.after_search: Hook | None = None

    async def exists(self, tenant: str) -> bool:
        return await self.vectors.exists(tenant)

    async def drop(self, tenant: str) -> None:
        await self.vectors.drop(tenant)

    async def store(
        self,
        tenant: str,
        document: str,
        version: Version,
        passages: Sequence[Passage],
        vectors: Vectors,
    ) -> None:
        await self.vectors.store(tenant, document, version, passages, vectors)
        hook, self.after_store = self.after_store, None
        if hook is not None:
            await hook()

    async def remove(self, tenant: str, version: Version) -> None:
        hook, self.before_remove = self.before_remove, None
        if hook is not None:
            await hook()
        await self.vectors.remove(tenant, version)

    async def search(
        self, tenant: str, vector: Vectors, *, limit: int, documents: Collection[str]
    ) -> Sequence[Hit]:
        hits = await self.vectors.search(tenant, vector, limit=limit, documents=documents)
        hook, self.after_search = self.after_search, None
        if hook is not None:
            await hook()
        return hits


@dataclass
class Knowledge:
    """A tenant's documents."""

    ingestion: Ingestion
    retrieval: Retrieval
    store: Interrupted
    clock: FakeClock

    async def put(self, text: str, uri: str = "a.md") -> Outcome:
        """Stores a document; a line is a passage."""
        source = Source(uri, "", "", text.encode(), {})
        (result,) = await self.ingestion.upsert("acme", [source])
        return result.outcome

    async def found(self, limit: int = 100) -> list[str]:
        """The texts that a search for anything finds."""
        query = Query("anything", limit=limit, min_score=0.0, documents=frozenset())
        findings = await self.retrieval.search("acme", query)
        return sorted(each.passage.text for each in findings.found)

    async def stored(self) -> list[str]:
        """The texts that are stored, whether they count or not."""
        vector = np.array([1.0, 0.0], np.float32)
        hits = await self.store.vectors.search("acme", vector, limit=1_000, documents=())
        return sorted(each.passage.text for each in hits)


@pytest.fixture
async def knowledge(
    redis_server: RedisServer, tmp_path: Path, clock: FakeClock, ids: FakeIds
) -> AsyncIterator[Knowledge]:
    redis = redis_store.connect(redis_server.url)
    registry = RedisRegistry(redis, ids)
    vectors = QdrantVectors.local(tmp_path / "qdrant")
    store = Interrupted(vectors)
    ingestion = Ingestion(
        reader=DocumentReader({MARKDOWN: MarkdownParser()}),
        splitter=Splitter(target_tokens=16, overlap_tokens=0),
        embedder=SameVectors(),
        registry=registry,
        store=store,
        clock=clock,
        ids=ids,
        recipe="test",
        slots=Slots("upserts", active=4, waiting=4),
    )
    retrieval = Retrieval(embedder=SameVectors(), registry=registry, index=store)
    yield Knowledge(ingestion, retrieval, store, clock)
    await vectors.close()
    await redis.aclose()


async def test_cut_off_before_it_counts_a_version_is_never_seen(knowledge: Knowledge) -> None:
    """The older one stays, until the call is repeated."""
    await knowledge.put("old")
    knowledge.store.after_store = _cut_off
    with pytest.raises(CutOff):
        await knowledge.put("new")
    assert await knowledge.stored() == ["new", "old"]
    assert await knowledge.found() == ["old"]
    assert await knowledge.put("new") is Outcome.UPDATED
    assert await knowledge.found() == ["new"]


async def test_cut_off_before_the_older_is_gone_only_the_newer_is_seen(
    knowledge: Knowledge,
) -> None:
    """And a repeat has nothing to do."""
    await knowledge.put("old")
    knowledge.store.before_remove = _cut_off
    with pytest.raises(CutOff):
        await knowledge.put("new")
    assert await knowledge.stored() == ["new", "old"]
    assert await knowledge.found() == ["new"]
    assert await knowledge.put("new") is Outcome.UNCHANGED


async def test_what_was_left_behind_is_swept_after_an_hour(knowledge: Knowledge) -> None:
    """With the next upsert of the tenant, not before: it might be under way."""
    for hook in ("after_store", "before_remove"):
        await knowledge.put("old", uri=f"{hook}.md")
        setattr(knowledge.store, hook, _cut_off)
        with pytest.raises(CutOff):
            await knowledge.put("new", uri=f"{hook}.md")
    await knowledge.clock.advance(_HOUR_SECONDS - 1)
    await knowledge.put("other", uri="other.md")
    assert await knowledge.stored() == ["new", "new", "old", "old", "other"]
    await knowledge.clock.advance(2)
    await knowledge.put("other", uri="other.md")
    assert await knowledge.stored() == ["new", "old", "other"]
    assert await knowledge.found() == ["new", "old", "other"]


async def test_a_deletion_that_was_cut_off_counts(knowledge: Knowledge) -> None:
    """Nothing of the document is found; its passages go when the deletion is swept."""
    await knowledge.put("gone")
    await knowledge.put("kept", uri="b.md")
    knowledge.store.before_remove = _cut_off
    with pytest.raises(CutOff):
        await knowledge.ingestion.delete("acme", [knowledge.ingestion.document_id("acme", "a.md")])
    assert await knowledge.found() == ["kept"]
    await knowledge.clock.advance(_HOUR_SECONDS + 1)
    await knowledge.put("kept", uri="b.md")
    assert await knowledge.stored() == ["kept"]


async def test_a_repeated_deletion_leaves_no_passage(knowledge: Knowledge) -> None:
    """Though the first one counted, and so the repeat finds no document."""
    await knowledge.put("gone")
    await knowledge.put("kept", uri="b.md")
    document = knowledge.ingestion.document_id("acme", "a.md")
    knowledge.store.before_remove = _cut_off
    with pytest.raises(CutOff):
        await knowledge.ingestion.delete("acme", [document])
    assert await knowledge.stored() == ["gone", "kept"]
    assert await knowledge.ingestion.delete("acme", [document]) == 0
    assert await knowledge.stored() == ["kept"]


async def test_a_version_that_was_swept_while_it_was_stored_does_not_count(
    knowledge: Knowledge,
) -> None:
    """As when the machine slept for an hour in between: it would have no passages."""

    async def sleep() -> None:
        await knowledge.clock.advance(_HOUR_SECONDS + 1)
        await knowledge.put("other", uri="other.md")

    await knowledge.put("old")
    knowledge.store.after_store = sleep
    assert await knowledge.put("new") is Outcome.FAILED
    assert await knowledge.found() == ["old", "other"]
    assert await knowledge.stored() == ["old", "other"]


async def test_the_later_of_two_writers_wins(knowledge: Knowledge) -> None:
    """And removes what the other stored."""

    async def write() -> None:
        assert await knowledge.put("theirs") is Outcome.CREATED

    knowledge.store.after_store = write
    assert await knowledge.put("ours") is Outcome.UPDATED
    assert await knowledge.found() == await knowledge.stored() == ["ours"]


async def test_two_writers_of_the_same_are_one(knowledge: Knowledge) -> None:
    """The later finds that nothing is left to do."""

    async def write() -> None:
        assert await knowledge.put("same") is Outcome.CREATED

    knowledge.store.after_store = write
    assert await knowledge.put("same") is Outcome.UNCHANGED
    assert await knowledge.stored() == ["same"]


async def test_a_search_that_a_change_overtakes_is_made_again(knowledge: Knowledge) -> None:
    """The passages found are gone by then, and those of the new version were not there yet."""

    async def change() -> None:
        await knowledge.put("new")

    await knowledge.put("old")
    knowledge.store.after_search = change
    assert await knowledge.found() == ["new"]


async def test_a_search_that_a_deletion_overtakes_finds_the_rest(knowledge: Knowledge) -> None:
    """As if it had come later."""

    async def delete() -> None:
        await knowledge.ingestion.delete("acme", [knowledge.ingestion.document_id("acme", "a.md")])

    await knowledge.put("gone")
    await knowledge.put("kept", uri="b.md")
    knowledge.store.after_search = delete
    assert await knowledge.found() == ["kept"]


async def test_a_search_gives_up_where_changes_never_end(knowledge: Knowledge) -> None:
    """After five times, and says that it can be tried again."""
    count = 0

    async def change() -> None:
        nonlocal count
        count += 1
        await knowledge.put(f"new {count}")
        knowledge.store.after_search = change

    await knowledge.put("old")
    knowledge.store.after_search = change
    with pytest.raises(DependencyUnavailable) as caught:
        await knowledge.found()
    assert str(caught.value) == (
        "The documents that fit changed during each of 5 searches; try again."
    )
    assert caught.value.retry_after_seconds == 1.0
    assert count == 5


async def test_passages_that_do_not_count_take_nobodys_place(knowledge: Knowledge) -> None:
    """Twenty left behind, and still as many as were asked for."""
    await knowledge.put("\n\n".join(f"old {n} {'x' * 40}" for n in range(20)))
    for n in range(5):
        await knowledge.put(f"kept {n}", uri=f"{n}.md")
    knowledge.store.before_remove = _cut_off
    with pytest.raises(CutOff):
        await knowledge.put("new")
    assert len(await knowledge.stored()) == 26
    assert len(await knowledge.found(limit=6)) == 6
    assert not any(each.startswith("old") for each in await knowledge.found(limit=3))
