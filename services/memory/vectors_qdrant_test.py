"""Passages in Qdrant's local mode."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import numpy as np
import pytest

from meshkit.errors import DependencyUnavailable
from services.memory.document import Passage, Version
from services.memory.retrieval import Hit
from services.memory.vectors_qdrant import QdrantVectors

_ONE, _TWO = Version("v1", 2), Version("v2", 1)
_PASSAGES = [Passage("first", ("A", "B"), 1, 2, 0), Passage("second\0é", (), 3, 3, 7)]
_EAST, _NORTH = np.eye(2, dtype=np.float32)
_BETWEEN = np.array([0.8, 0.6], np.float32)


@pytest.fixture
async def vectors(tmp_path: Path) -> AsyncIterator[QdrantVectors]:
    vectors = QdrantVectors.local(tmp_path / "qdrant")
    yield vectors
    await vectors.close()


async def _fill(vectors: QdrantVectors, tenant: str = "acme") -> None:
    await vectors.store(tenant, "d1", _ONE, _PASSAGES, np.stack([_EAST, _BETWEEN]))
    await vectors.store(tenant, "d2", _TWO, _PASSAGES[:1], np.stack([_NORTH]))


async def test_the_nearest_passages_come_first(vectors: QdrantVectors) -> None:
    """Everything about a passage comes back, with the cosine as its score."""
    await _fill(vectors)
    first, second = await vectors.search("acme", _EAST, limit=2, documents=())
    assert first == Hit("d1", "v1", _PASSAGES[0], 1.0)
    assert (second.document, second.version, second.passage) == ("d1", "v1", _PASSAGES[1])
    assert second.score == pytest.approx(0.8)


async def test_a_search_can_be_limited_to_documents(vectors: QdrantVectors) -> None:
    """However far these are."""
    await _fill(vectors)
    hits = await vectors.search("acme", _EAST, limit=5, documents={"d2", "unknown"})
    assert hits == [Hit("d2", "v2", _PASSAGES[0], 0.0)]


async def test_a_version_is_removed_by_itself(vectors: QdrantVectors) -> None:
    """Twice is as good as once, and so is one that never was."""
    await _fill(vectors)
    for version in (_ONE, _ONE, Version("other", 3), Version("none", 0)):
        await vectors.remove("acme", version)
    hits = await vectors.search("acme", _EAST, limit=5, documents=())
    assert [hit.version for hit in hits] == ["v2"]


async def test_tenants_do_not_see_each_other(vectors: QdrantVectors) -> None:
    """Nor does removing or dropping reach over."""
    await _fill(vectors)
    assert await vectors.search("umbrella", _EAST, limit=5, documents=()) == ()
    assert not await vectors.exists("umbrella")
    await _fill(vectors, "umbrella")
    await vectors.remove("umbrella", _ONE)
    await vectors.drop("umbrella")
    assert not await vectors.exists("umbrella")
    assert len(await vectors.search("acme", _EAST, limit=5, documents=())) == 3


async def test_vectors_of_another_embedding_model_are_told_apart(vectors: QdrantVectors) -> None:
    """It is said what to do, and that helps: an empty collection takes vectors of any length."""
    await _fill(vectors)
    other = np.array([1.0, 0.0, 0.0], np.float32)
    new = Version("v3", 1)
    for call in (
        vectors.search("acme", other, limit=5, documents=()),
        vectors.store("acme", "d3", new, _PASSAGES[:1], np.stack([other])),
    ):
        with pytest.raises(DependencyUnavailable) as caught:
            await call
        assert str(caught.value) == (
            "The documents of tenants/acme are there with vectors of 2 numbers, and the embedding"
            " model makes 3. Set memory.embedding_model to the one that they were added with, or"
            " delete them all and add them again."
        )
    assert len(await vectors.search("acme", _EAST, limit=5, documents=())) == 3
    for version in (_ONE, _TWO):
        await vectors.remove("acme", version)
    assert await vectors.search("acme", other, limit=5, documents=()) == ()
    await vectors.store("acme", "d3", new, _PASSAGES[:1], np.stack([other]))
    assert await vectors.search("acme", other, limit=5, documents=()) == [
        Hit("d3", "v3", _PASSAGES[0], 1.0)
    ]


async def test_passages_survive_a_restart(tmp_path: Path) -> None:
    """They are on disk when `store` returns."""
    first = QdrantVectors.local(tmp_path)
    await _fill(first)
    await first.close()
    second = QdrantVectors.local(tmp_path)
    assert await second.exists("acme")
    assert len(await second.search("acme", _EAST, limit=5, documents=())) == 3
    await second.close()


async def test_a_folder_in_use_is_told_in_one_line(tmp_path: Path) -> None:
    """And can be used as soon as the other lets go of it."""
    first, second = (QdrantVectors.local(tmp_path) for _ in range(2))
    await first.open()
    with pytest.raises(DependencyUnavailable) as caught:
        await second.open()
    assert str(caught.value) == (
        f"Failed to open the vectors in {tmp_path}: another process uses them. "
        "Stop it, or choose another data directory."
    )
    await first.close()
    await second.open()
    await second.close()


async def test_a_folder_that_cannot_be_made_is_told(tmp_path: Path) -> None:
    """With the cause."""
    (tmp_path / "file").write_text("")
    vectors = QdrantVectors.local(tmp_path / "file" / "qdrant")
    with pytest.raises(
        DependencyUnavailable, match=r"Failed to open the vectors in .*: .*Not a directory"
    ):
        await vectors.open()
    await vectors.close()


async def test_a_server_that_does_not_answer_is_unavailable() -> None:
    """It is asked at first use, not at the start."""
    vectors = QdrantVectors.server("http://127.0.0.1:1", None)
    await vectors.open()
    with pytest.raises(
        DependencyUnavailable, match=r"Failed to use the vectors in http://127.0.0.1:1: "
    ):
        await vectors.search("acme", _EAST, limit=1, documents=())
    await vectors.close()


async def test_the_event_loop_goes_on_while_vectors_are_written(vectors: QdrantVectors) -> None:
    """Five hundred passages are written in a thread, and a search passes between them."""
    version = Version("long", 500)
    passages = [Passage(f"text {n}", (), n, n, 0) for n in range(500)]
    many = np.tile(_EAST, (500, 1))
    writing = asyncio.create_task(vectors.store("acme", "d", version, passages, many))
    turns = 0
    while not await vectors.search("acme", _EAST, limit=1, documents=()):
        turns += 1
    assert not writing.done()
    await writing
    assert len(await vectors.search("acme", _EAST, limit=1_000, documents=())) == 500
