"""Documents at the contract: real Redis, Qdrant's local mode, vectors of hashed words."""

import asyncio
import re
import shutil
from pathlib import Path
from typing import Any, cast

import pytest

from agentmesh.memory.v1 import document_pb2
from agentmesh.memory.v1.document_pb2 import DocumentSource
from meshkit import errors, redis_store
from meshkit.errors import DependencyUnavailable
from meshtest.redis_server import RedisServer
from services.memory.hashing_reasoning import HashingReasoning, hashing_reasoning
from services.memory.hosted_memory import Client, hosted_memory
from services.memory.settings import MemorySettings

pytest_plugins = ["services.memory.fixture_documents"]

_TESTDATA = Path(__file__).with_name("testdata")
CREATED = document_pb2.UPSERT_OUTCOME_CREATED
UPDATED = document_pb2.UPSERT_OUTCOME_UPDATED
UNCHANGED = document_pb2.UPSERT_OUTCOME_UNCHANGED


async def test_a_passage_is_cited_with_the_lines_of_its_file(memory: Client) -> None:
    """Markdown, text and HTML alike."""
    files = [_TESTDATA / name for name in ("gateway.md", "billing.md", "coffee.txt", "access.html")]
    results = await memory.upsert(
        *(DocumentSource(uri=f"docs/{each.name}", content=each.read_bytes()) for each in files)
    )
    assert [(each.outcome, each.uri, each.document.title) for each in results] == [
        (CREATED, "docs/gateway.md", "Gateway runbook"),
        (CREATED, "docs/billing.md", "Billing"),
        (CREATED, "docs/coffee.txt", "coffee.txt"),
        (CREATED, "docs/access.html", "Access to production"),
    ]
    best = (await memory.search("bucket of requests a minute for each tenant"))[0]
    assert (best.citation.uri, best.citation.start_line, best.citation.end_line) == (
        "docs/gateway.md",
        6,
        10,
    )
    assert best.citation.document == results[0].document.name
    assert list(best.headings) == ["Gateway runbook", "Rate limits"]
    assert best.text == "\n".join(files[0].read_text().split("\n")[5:10])
    assert best.citation.snippet == best.text
    best = (await memory.search("lost security key, help desk, courier"))[0]
    assert (best.citation.title, best.citation.start_line, best.citation.end_line) == (
        "Access to production",
        11,
        13,
    )
    assert 0 < best.citation.score <= 1


async def test_the_same_content_again_costs_nothing(
    memory: Client, reasoning: HashingReasoning
) -> None:
    """It is left as it is, and nothing is embedded."""
    first = await memory.add("a.md", "# Alpha\nabout apples")
    embedded = len(reasoning.texts)
    version = (await memory.find("apples")).knowledge_version
    embedded_for_query = len(reasoning.texts) - embedded
    again = await memory.add("a.md", "# Alpha\nabout apples")
    assert (first.outcome, again.outcome) == (CREATED, UNCHANGED)
    assert again.document == first.document
    assert len(reasoning.texts) == embedded + embedded_for_query
    assert (await memory.find("apples")).knowledge_version == version


async def test_changed_content_takes_the_place_of_the_older(memory: Client) -> None:
    """Under the same name; nothing of the older version is found again."""
    first = await memory.add("a.md", "about apples\n\n" * 100)
    before = (await memory.find("apples")).knowledge_version
    second = await memory.add("a.md", "about bananas")
    assert second.outcome == UPDATED
    assert second.document.name == first.document.name
    assert second.document.digest != first.document.digest
    answer = await memory.find("apples", limit=100)
    assert [each.text for each in answer.passages] == ["about bananas"]
    assert answer.knowledge_version != before


async def test_a_new_title_is_a_change_too(memory: Client) -> None:
    """As are labels and the media type."""
    await memory.add("a.md", "text")
    for source in (
        DocumentSource(uri="a.md", content=b"text", title="New"),
        DocumentSource(uri="a.md", content=b"text", title="New", labels={"a": "b"}),
        DocumentSource(uri="a.md", content=b"text", labels={"a": "b"}, media_type="text/plain"),
    ):
        (result,) = await memory.upsert(source)
        assert result.outcome == UPDATED
        assert result.document.title == "New" or source.media_type


async def test_deleted_documents_are_gone(memory: Client) -> None:
    """Names that are unknown, or were deleted before, are not counted."""
    one = await memory.add("a.md", "about apples")
    await memory.add("b.md", "about bananas")
    before = (await memory.find("apples")).knowledge_version
    assert await memory.delete(one.document.name, "tenants/acme/documents/unknown") == 1
    assert await memory.delete(one.document.name) == 0
    answer = await memory.find("apples")
    assert [each.citation.uri for each in answer.passages] == ["b.md"]
    assert answer.knowledge_version != before
    assert (await memory.add("a.md", "about apples")).outcome == CREATED


async def test_without_embeddings_nothing_is_stored(
    memory: Client, reasoning: HashingReasoning
) -> None:
    """The call fails as a whole, and can be repeated as it is."""
    await memory.add("a.md", "about apples")
    reasoning.fault = DependencyUnavailable("The model is away.")
    with pytest.raises(DependencyUnavailable, match=r"The model is away\."):
        await memory.upsert(
            DocumentSource(uri="a.md", content=b"about bananas"),
            DocumentSource(uri="b.md", content=b"about cherries"),
        )
    with pytest.raises(DependencyUnavailable, match=r"The model is away\."):
        await memory.search("apples")
    reasoning.fault = None
    assert [each.text for each in await memory.search("apples")] == ["about apples"]
    assert (await memory.add("a.md", "about bananas")).outcome == UPDATED


async def test_embeddings_are_asked_for_in_batches(
    memory: Client, reasoning: HashingReasoning
) -> None:
    """Of at most 32, across documents, each text with the headings above it."""
    long = "# Long\n\n" + "A sentence about something that takes a little room.\n\n" * 2_000
    results = await memory.upsert(
        DocumentSource(uri="long.md", content=long.encode()),
        DocumentSource(uri="short.txt", title="Short", content=b"text"),
    )
    count = sum(each.document.passage_count for each in results)
    assert count > 128
    assert [len(each) for each in reasoning.batches] == [32] * (count // 32) + [count % 32]
    assert all(text.startswith("Long\n") for text in reasoning.texts[:-1])
    assert reasoning.texts[-1] == "Short\ntext"


async def test_nothing_crosses_tenants(memory: Client) -> None:
    """The same uri is another document; names of others are refused."""
    other = Client(memory.stub, "umbrella")
    assert (await other.find("apples")).knowledge_version == "0"
    ours = await memory.add("a.md", "about apples of ours")
    assert await other.search("apples", limit=100) == []
    theirs = await other.add("a.md", "about apples of theirs")
    assert theirs.outcome == CREATED
    assert theirs.document.name != ours.document.name
    assert [each.text for each in await memory.search("apples", limit=100)] == [
        "about apples of ours"
    ]
    for call in (
        memory.delete(theirs.document.name),
        memory.search("apples", documents=[theirs.document.name]),
    ):
        with pytest.raises(errors.InvalidField, match="must be a document of tenants/acme"):
            await call
    stolen = ours.document.name.rpartition("/")[2]
    assert await other.delete(f"tenants/umbrella/documents/{stolen}") == 0
    assert await other.search("apples", documents=[f"tenants/umbrella/documents/{stolen}"]) == []
    assert await memory.delete(ours.document.name) == 1
    assert [each.text for each in await other.search("apples", limit=100)] == [
        "about apples of theirs"
    ]


async def test_a_search_heeds_its_limits(memory: Client) -> None:
    """Number of passages, least score, and documents."""
    names = [(await memory.add(f"{n}.md", f"apples number{n}")).document.name for n in range(8)]
    assert len(await memory.search("apples")) == 5
    assert len(await memory.search("apples", limit=7)) == 7
    (exact,) = await memory.search("apples number3", min_score=0.99)
    assert exact.citation.uri == "3.md"
    only = await memory.search("apples number3", documents=names[4:6])
    assert {each.citation.document for each in only} == set(names[4:6])


@pytest.mark.parametrize("end", ["\n", "\r\n", "\r"])
async def test_lines_are_those_that_an_editor_shows(memory: Client, end: str) -> None:
    """Whatever ends them, and with a byte order mark."""
    text = "\ufeff" + end.join(["# Fruit", "", "apples", "", "## Other", "pears"])
    await memory.add("a.md", text)
    (pears,) = await memory.search("pears", limit=1)
    assert (pears.citation.title, pears.citation.start_line, pears.citation.end_line) == (
        "Fruit",
        5,
        6,
    )
    assert pears.text == "## Other\npears"


async def test_everything_is_there_after_a_restart(
    nats_url: str, redis_url: str, shared_redis: RedisServer, tmp_path: Path
) -> None:
    """Of memory and of Redis."""
    reasoning = hashing_reasoning().registration()
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        await memory.add("a.md", "about apples")
        before = await memory.find("apples")
    shared_redis.restart()
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        assert await memory.find("apples") == before
        assert (await memory.add("a.md", "about apples")).outcome == UNCHANGED


async def test_lost_vectors_are_made_again(nats_url: str, redis_url: str, tmp_path: Path) -> None:
    """A document whose passages are gone is not taken for unchanged."""
    reasoning = hashing_reasoning().registration()
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        await memory.add("a.md", "about apples")
    shutil.rmtree(tmp_path / "data" / "qdrant")
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        assert await memory.search("apples") == []
        assert (await memory.add("a.md", "about apples")).outcome == CREATED
        assert len(await memory.search("apples")) == 1


async def test_passages_that_redis_forgot_do_not_return(
    nats_url: str, redis_url: str, tmp_path: Path
) -> None:
    """They are removed when the tenant's next document comes."""
    reasoning = hashing_reasoning().registration()
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        await memory.add("a.md", "about apples")
    async with redis_store.connect(redis_url) as connection:
        await cast(Any, connection).flushall()
    async with hosted_memory(nats_url, redis_url, tmp_path / "data", reasoning) as memory:
        assert await memory.search("apples") == []
        assert (await memory.add("b.md", "about bananas")).outcome == CREATED
        assert [each.text for each in await memory.search("apples")] == ["about bananas"]


async def test_another_way_of_splitting_is_a_change(
    nats_url: str, redis_url: str, tmp_path: Path
) -> None:
    """The same content gives other passages then."""
    reasoning = hashing_reasoning().registration()
    text = "A sentence about apples. " * 30
    for tokens, count, outcome in ((200, 1, CREATED), (50, 4, UPDATED)):
        settings = MemorySettings(passage_tokens=tokens, overlap_tokens=0)
        async with hosted_memory(
            nats_url, redis_url, tmp_path / "data", reasoning, settings
        ) as memory:
            result = await memory.add("a.txt", text)
            assert (result.outcome, result.document.passage_count) == (outcome, count)


async def test_searches_see_one_version_of_a_document_at_any_time(memory: Client) -> None:
    """Never two at once, and never none, while it changes as fast as it can."""
    done = asyncio.Event()
    await memory.add("a.md", "apples v0\n\n" * 150)

    async def change() -> None:
        for number in range(1, 30):
            result = await memory.add("a.md", f"apples v{number}\n\n" * 150)
            assert result.outcome == UPDATED
        done.set()

    async def look() -> int:
        seen: set[str] = set()
        while not done.is_set():
            passages = await memory.search("apples", limit=50)
            versions = {word for each in passages for word in re.findall(r"v\d+", each.text)}
            assert len(versions) == 1
            seen |= versions
        return len(seen)

    async with asyncio.TaskGroup() as group:
        group.create_task(change())
        lookers = [group.create_task(look()) for _ in range(2)]
    assert max(each.result() for each in lookers) > 3


async def test_two_at_once_leave_one_version(memory: Client) -> None:
    """Whoever is later wins; nothing is left of the other."""
    results = await asyncio.gather(*(memory.add("a.md", f"version {n % 3}") for n in range(9)))
    assert {each.outcome for each in results} <= {CREATED, UPDATED, UNCHANGED}
    assert [each.outcome for each in results].count(CREATED) == 1
    assert len(await memory.search("version", limit=100)) == 1
