"""The calls of `agentmesh docs`, and what they print."""

from collections.abc import Sequence
from pathlib import Path
from typing import Final

from agentmesh.memory.v1.document_pb2 import UpsertedDocument
from agentmesh.memory.v1.memory_service_pb2 import (
    DeleteDocumentsRequest,
    SearchRequest,
    SearchResponse,
)
from cli import document_files, document_upload
from cli.answer import place
from cli.document_files import DocumentFile
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.problem import Report
from cli.wording import plural, shorten
from meshkit.ids import stable_id

_SNIPPET: Final = 240
# The most names that one call takes.
_DELETE_BATCH: Final = 1000


def add(invocation: Invocation, documents: Sequence[DocumentFile]) -> bool:
    """Stores documents. False if one could not be stored."""
    terminal = invocation.terminal

    def tell(result: UpsertedDocument) -> None:
        if terminal.as_json:
            terminal.line(to_plain(result))
        else:
            terminal.say(document_upload.result_line(result))

    async def run(gateway: Gateway) -> list[UpsertedDocument]:
        return await document_upload.upload_and_tell(
            gateway, invocation.parent, documents, terminal=terminal, tell=tell
        )

    results = call(address_of(invocation), invocation.tenant, run)
    if not terminal.as_json:
        terminal.say(document_upload.summary(results))
    failures = [each for each in results if document_upload.failed(each)]
    if failures:
        terminal.fail(Report(f"{plural(len(failures), 'document')} could not be stored."))
    return not failures


def search(invocation: Invocation, query: str, limit: int, min_score: float) -> None:
    """Prints the passages that fit best."""
    request = SearchRequest(parent=invocation.parent, query=query, limit=limit, min_score=min_score)

    async def run(gateway: Gateway) -> SearchResponse:
        return await gateway.memory.Search(request, timeout=CALL_SECONDS)

    answer = call(address_of(invocation), invocation.tenant, run)
    terminal = invocation.terminal
    if terminal.as_json:
        terminal.document(to_plain(answer))
        return
    if not answer.passages:
        terminal.say("Nothing fits. Add documents with `agentmesh docs add PATH`.")
    for number, passage in enumerate(answer.passages, start=1):
        headings = f"  {' › '.join(passage.headings)}" if passage.headings else ""
        terminal.say(
            f"[{number}] {place(passage.citation)}  {passage.citation.score:.3f}{headings}",
            style="bold",
        )
        terminal.say(f"    {shorten(passage.citation.snippet or passage.text, _SNIPPET)}")


def remove(invocation: Invocation, given: Sequence[str], *, base: Path) -> None:
    """Removes documents by path or name, and says how many there were."""
    names = list(dict.fromkeys(name for each in given for name in _names(invocation, each, base)))

    async def run(gateway: Gateway) -> int:
        deleted = 0
        for start in range(0, len(names), _DELETE_BATCH):
            request = DeleteDocumentsRequest(
                parent=invocation.parent, names=names[start : start + _DELETE_BATCH]
            )
            answer = await gateway.memory.DeleteDocuments(request, timeout=CALL_SECONDS)
            deleted += answer.deleted_count
        return deleted

    deleted = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"deleted_count": deleted, "names": names})
        return
    others = len(names) - deleted
    unknown = (
        f"; {plural(others, 'other')} {'was' if others == 1 else 'were'} not stored"
        if others
        else ""
    )
    invocation.terminal.say(f"{plural(deleted, 'document')} removed{unknown}.")


def _names(invocation: Invocation, given: str, base: Path) -> list[str]:
    if given.startswith("tenants/"):
        return [given]
    path = Path(given)
    if path.is_dir():
        files = [each.uri for each in document_files.find([path], base=base).documents]
    else:
        files = [document_files.uri_of(path, base=base)]
    # The memory service makes a document's id of its tenant and uri in this way.
    return [
        f"{invocation.parent}/documents/{stable_id('document', invocation.tenant, uri)}"
        for uri in files
    ]
