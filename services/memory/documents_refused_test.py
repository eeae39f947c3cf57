"""What is no document that can be read, and no search, is refused at the contract, and says why."""

import pytest

from agentmesh.memory.v1 import document_pb2
from agentmesh.memory.v1.document_pb2 import DocumentSource
from meshkit import errors
from meshkit.errors import MeshError
from services.memory import ingestion, parsed_document
from services.memory.hosted_memory import Client

pytest_plugins = ["services.memory.fixture_documents"]

CREATED = document_pb2.UPSERT_OUTCOME_CREATED
FAILED = document_pb2.UPSERT_OUTCOME_FAILED


async def test_each_document_fails_by_itself(memory: Client) -> None:
    """With a reason and with what to do; the others are stored."""
    results = await memory.upsert(
        DocumentSource(uri="good.md", content=b"# Good"),
        DocumentSource(uri="latin.txt", content=b"caf\xe9"),
        DocumentSource(uri="empty.md", content=b""),
        DocumentSource(uri="blank.md", content=b" \n\n\t"),
        DocumentSource(uri="report.docx", content=b"PK"),
        DocumentSource(uri="scripts.html", content=b"<script>alert(1)</script>"),
        DocumentSource(uri="broken.pdf", content=b"%PDF-1.7 broken"),
        DocumentSource(uri="https://x.org/page.html?a=b.md", content=b"<p>Page"),
        DocumentSource(uri="notes://[draft", content=b"No address"),
    )
    assert [each.outcome for each in results] == [CREATED, *[FAILED] * 6, CREATED, CREATED]
    assert all(not each.HasField("document") for each in results[1:7])
    raised = [errors.from_status(each.error) for each in results[1:7]]
    assert {type(each) for each in raised} == {errors.UnreadableDocument}
    assert [str(each) for each in raised[:5]] == [
        "Failed to read latin.txt: byte 0xe9 at offset 3 is not UTF-8. "
        "Save it as UTF-8 and add it again.",
        "Failed to read empty.md: it is empty.",
        "Failed to read blank.md: there is no text in it.",
        "Failed to read report.docx: its ending is none of .md, .markdown, .txt, .text, .html, "
        ".htm, .xhtml, .pdf. Give its media_type, one of text/markdown, text/plain, text/html, "
        "application/pdf.",
        "Failed to read scripts.html: there is no text in it.",
    ]
    assert str(raised[5]).startswith("Failed to read broken.pdf: it is no PDF that can be read (")
    assert len(await memory.search("anything", limit=100)) == 3


async def test_a_document_that_would_take_too_much_memory_is_refused(
    memory: Client, monkeypatch: pytest.MonkeyPatch
) -> None:
    """One with too many lines or headings; a long heading is cut."""
    assert parsed_document.MAX_LINES == 300_000
    monkeypatch.setattr(parsed_document, "MAX_LINES", 3_000)
    monkeypatch.setattr(ingestion, "_MAX_PASSAGES", 200)
    results = await memory.upsert(
        DocumentSource(uri="lines.txt", content=b"a\n" * 3_000),
        DocumentSource(uri="blocks.html", content=b"<p>a" * 3_001),
        DocumentSource(uri="headings.md", content=b"# a\nb\n" * 201),
        DocumentSource(uri="title.md", content=b"# " + b"title " * 1_000 + b"\ntext"),
    )
    raised = [errors.from_status(each.error) for each in results[:3]]
    assert [(type(each), str(each)) for each in raised] == [
        (
            errors.UnreadableDocument,
            "Failed to read lines.txt: it has more than 3000 lines. Add it in parts.",
        ),
        (
            errors.UnreadableDocument,
            "Failed to read blocks.html: it has more than 3000 lines. Add it in parts.",
        ),
        (
            errors.TooLarge,
            "headings.md gives more than 200 passages, since it has very many headings. "
            "Add it in parts.",
        ),
    ]
    assert results[3].document.title == "title " * 33 + "t" + "i"


async def test_an_unreadable_version_leaves_the_older_one(memory: Client) -> None:
    """Nothing is half-done."""
    await memory.add("a.md", "about apples")
    (result,) = await memory.upsert(DocumentSource(uri="a.md", content=b"\xff"))
    assert result.outcome == FAILED
    assert [each.text for each in await memory.search("apples")] == ["about apples"]


@pytest.mark.parametrize(
    ("source", "message"),
    [
        (
            {"uri": ""},
            "documents[1].uri: must be 1 to 2048 characters, none of them a control character",
        ),
        (
            {"uri": "a\nb"},
            "documents[1].uri: must be 1 to 2048 characters, none of them a control character",
        ),
        ({"uri": "ok"}, "documents[1].uri: is that of documents[0]; send each document once"),
        (
            {"uri": "x", "media_type": "image/png"},
            "documents[1].media_type: must be one of text/markdown, text/plain, text/html, "
            "application/pdf, or empty, not 'image/png'",
        ),
        (
            {"uri": "x", "title": "t" * 513},
            "documents[1].title: must be at most 512 characters long",
        ),
        (
            {"uri": "x", "labels": {"": "v"}},
            "documents[1].labels: must be at most 64, with keys and values of at most 256 "
            "characters, and no empty key",
        ),
    ],
)
async def test_a_wrong_source_is_named(
    memory: Client, source: dict[str, object], message: str
) -> None:
    """And nothing of the call is stored."""
    with pytest.raises(errors.InvalidField) as caught:
        await memory.upsert(
            DocumentSource(uri="ok", content=b"text"),
            DocumentSource(content=b"text", **source),  # type: ignore[arg-type]
        )
    assert str(caught.value) == message
    assert await memory.search("text") == []


async def test_too_much_at_once_is_refused(memory: Client) -> None:
    """With the limit and the size."""
    with pytest.raises(errors.TooLarge) as caught:
        await memory.add("a.txt", "a" * (6 * 1024 * 1024 + 1))
    assert str(caught.value) == (
        "The documents are 6291457 bytes; at most 6291456 go into one call. "
        "Send them in parts, and split large ones."
    )
    assert caught.value.metadata == {"limit_bytes": "6291456", "size_bytes": "6291457"}
    with pytest.raises(MeshError, match=r"documents: must be 1 to 64 documents, not 65"):
        await memory.upsert(*(DocumentSource(uri=str(n), content=b"x") for n in range(65)))


@pytest.mark.parametrize(
    ("fields", "message"),
    [
        ({"query": " "}, "query: must not be empty; say in words what to look for"),
        ({"query": "é" * 4097}, "query: must be at most 8192 bytes long"),
        ({"query": "x", "limit": -1}, "limit: must be 0 to 100, not -1"),
        ({"query": "x", "limit": 101}, "limit: must be 0 to 100, not 101"),
        ({"query": "x", "min_score": 1.5}, "min_score: must be from 0 to 1, not 1.5"),
        ({"query": "x", "min_score": float("nan")}, "min_score: must be from 0 to 1, not nan"),
    ],
)
async def test_a_wrong_search_is_named(
    memory: Client, fields: dict[str, object], message: str
) -> None:
    """By its field, with what would be right."""
    with pytest.raises(errors.InvalidField) as caught:
        await memory.find(**fields)  # type: ignore[arg-type]
    assert str(caught.value) == message
