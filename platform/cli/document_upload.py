"""Storing documents in a tenant's knowledge, batch by batch."""

from collections.abc import AsyncIterator, Callable, Sequence
from typing import Final

from google.rpc import status_pb2

from agentmesh.memory.v1.document_pb2 import DocumentSource, UpsertedDocument, UpsertOutcome
from agentmesh.memory.v1.memory_service_pb2 import UpsertDocumentsRequest
from cli.document_files import DocumentFile, batches
from cli.gateway import Gateway
from cli.problem import Problem, Report
from cli.terminal import Terminal
from cli.wording import plural

# A batch may wait for another's embeddings, and a busy machine is slow.
_BATCH_SECONDS: Final = 60.0
_SECONDS_PER_BYTE: Final = 120.0 / (1024 * 1024)
# The gateway lets no plain call take longer.
_LONGEST_SECONDS: Final = 600.0

_WORDS: Final = {
    UpsertOutcome.UPSERT_OUTCOME_CREATED: "added",
    UpsertOutcome.UPSERT_OUTCOME_UPDATED: "updated",
    UpsertOutcome.UPSERT_OUTCOME_UNCHANGED: "unchanged",
    UpsertOutcome.UPSERT_OUTCOME_FAILED: "failed",
}


def outcome_word(outcome: int) -> str:
    """`added`, `updated`, `unchanged` or `failed`."""
    return next((word for value, word in _WORDS.items() if value == outcome), str(outcome))


def failed(result: UpsertedDocument) -> bool:
    """Whether the document could not be stored."""
    return result.outcome == UpsertOutcome.UPSERT_OUTCOME_FAILED


def failure_text(status: status_pb2.Status) -> str:
    """Why a document failed."""
    from cli.explain import explain
    from meshkit.errors import from_status

    report = explain(from_status(status))
    return Report(report.message, reason=report.reason).line()


async def upload(
    gateway: Gateway, parent: str, documents: Sequence[DocumentFile]
) -> AsyncIterator[UpsertedDocument]:
    """Stores `documents` and answers what became of each, batch by batch.

    Raises MeshError where a whole batch is refused, Problem where a file went
    away since it was checked.
    """
    for batch in batches(documents):
        request = UpsertDocumentsRequest(parent=parent)
        for each in batch:
            request.documents.append(DocumentSource(uri=each.uri, content=_read(each)))
        total = sum(each.size_bytes for each in batch)
        timeout = min(_LONGEST_SECONDS, _BATCH_SECONDS + total * _SECONDS_PER_BYTE)
        answer = await gateway.memory.UpsertDocuments(request, timeout=timeout)
        for result in answer.results:
            yield result


async def upload_and_tell(
    gateway: Gateway,
    parent: str,
    documents: Sequence[DocumentFile],
    *,
    terminal: Terminal,
    tell: Callable[[UpsertedDocument], None],
) -> list[UpsertedDocument]:
    """Like `upload`, and tells what became of each document.

    With a terminal on stderr a bar shows meanwhile, and the telling follows;
    else each document is told of as its batch is done.
    """
    results: list[UpsertedDocument] = []
    if not terminal.fancy_progress:
        async for result in upload(gateway, parent, documents):
            results.append(result)
            tell(result)
        return results

    from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn

    columns = (
        TextColumn("Reading documents"),
        BarColumn(),
        MofNCompleteColumn(),
        TimeElapsedColumn(),
        TextColumn("{task.fields[uri]}", style="dim"),
    )
    with Progress(*columns, console=terminal.err_console, transient=True) as bar:
        job = bar.add_task("", total=len(documents), uri=documents[0].uri if documents else "")
        async for result in upload(gateway, parent, documents):
            results.append(result)
            following = documents[len(results)].uri if len(results) < len(documents) else ""
            bar.update(job, advance=1, uri=following)
    for result in results:
        tell(result)
    return results


def require_stored(results: Sequence[UpsertedDocument]) -> None:
    """Raises Problem where a document could not be stored; it names the first."""
    failures = [each for each in results if failed(each)]
    if failures:
        first = failures[0]
        others = (
            f" ({len(failures)} of {plural(len(results), 'document')} failed)"
            if len(failures) > 1
            else ""
        )
        raise Problem(
            f"{first.uri}: could not be stored: {failure_text(first.error)}{others}",
            "Leave it out, or repair it.",
        )


def unchanged(result: UpsertedDocument) -> bool:
    """Whether the same content was stored already."""
    return result.outcome == UpsertOutcome.UPSERT_OUTCOME_UNCHANGED


def result_line(result: UpsertedDocument) -> str:
    """What became of one document."""
    if failed(result):
        return f"  failed     {result.uri}: {failure_text(result.error)}"
    passages = plural(result.document.passage_count, "passage")
    return f"  {outcome_word(result.outcome):<9}  {result.uri} ({passages})"


def summary(results: Sequence[UpsertedDocument]) -> str:
    """How many documents were added, updated, left as they are, refused."""
    parts = [
        f"{count} {word}"
        for value, word in _WORDS.items()
        if (count := sum(each.outcome == value for each in results))
    ]
    return f"{plural(len(results), 'document')}: {', '.join(parts)}."


def _read(document: DocumentFile) -> bytes:
    try:
        return document.path.read_bytes()
    except OSError as error:
        raise Problem(f"{document.path}: cannot be read any more: {error.strerror}.") from error
