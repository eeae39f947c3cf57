"""Memory's messages to domain and back, and everything that is checked on the way."""

import math
import re
from collections.abc import Sequence
from typing import Final

from google.protobuf.message import DecodeError

from agentmesh.common.v1 import conversation_pb2
from agentmesh.memory.v1 import document_pb2
from agentmesh.memory.v1 import memory_service_pb2 as pb
from meshkit import errors, identity, names
from meshkit.errors import CorruptData, InvalidField, TooLarge
from services.memory.document import Document, Outcome, Source, Upserted
from services.memory.document_reader import MEDIA_TYPES
from services.memory.retrieval import Findings, Found, Query
from services.memory.session import Append, Context
from services.memory.snippet import snippet

MAX_MESSAGES: Final = 100
MAX_MESSAGES_BYTES: Final = 1024 * 1024
MAX_REQUEST_ID_CHARACTERS: Final = 128
MAX_CONTEXT_TOKENS: Final = 1_000_000
DEFAULT_CONTEXT_TOKENS: Final = 4_000
MAX_DOCUMENTS: Final = 64
MAX_CONTENT_BYTES: Final = 6 * 1024 * 1024
MAX_URI_CHARACTERS: Final = 2_048
MAX_TITLE_CHARACTERS: Final = 512
MAX_LABELS: Final = 64
MAX_LABEL_CHARACTERS: Final = 256
MAX_NAMES: Final = 1_000
MAX_QUERY_BYTES: Final = 8 * 1024
MAX_PASSAGES: Final = 100
DEFAULT_PASSAGES: Final = 5

_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_ROLES: Final = frozenset(conversation_pb2.Role.values()) - {conversation_pb2.ROLE_UNSPECIFIED}
_OUTCOMES: Final = {
    Outcome.CREATED: document_pb2.UPSERT_OUTCOME_CREATED,
    Outcome.UPDATED: document_pb2.UPSERT_OUTCOME_UPDATED,
    Outcome.UNCHANGED: document_pb2.UPSERT_OUTCOME_UNCHANGED,
    Outcome.FAILED: document_pb2.UPSERT_OUTCOME_FAILED,
}


def append(request: pb.AppendMessagesRequest) -> Append:
    """What to add to which session. Raises InvalidField, TooLarge and Forbidden."""
    tenant, session_id = session(request.session)
    if not 1 <= len(request.messages) <= MAX_MESSAGES:
        raise InvalidField(
            "messages", f"must be 1 to {MAX_MESSAGES} messages, not {len(request.messages)}"
        )
    if len(request.request_id) > MAX_REQUEST_ID_CHARACTERS:
        raise InvalidField(
            "request_id", f"must be at most {MAX_REQUEST_ID_CHARACTERS} characters long"
        )
    for index, message in enumerate(request.messages):
        if message.role not in _ROLES:
            raise InvalidField(
                f"messages[{index}].role",
                "must be ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL",
            )
        if not (message.parts or message.tool_calls or message.HasField("tool_result")):
            raise InvalidField(f"messages[{index}]", "must have parts, tool_calls or a tool_result")
    # The same message in the same bytes, so that a repeated call is recognised.
    messages = tuple(each.SerializeToString(deterministic=True) for each in request.messages)
    _check_size(
        "The messages", sum(map(len, messages)), MAX_MESSAGES_BYTES, "Append them in parts."
    )
    return Append(tenant, session_id, messages, request.request_id)


def session(name: str) -> tuple[str, str]:
    """Tenant and session. Raises InvalidField and Forbidden."""
    tenant, session_id = names.SESSION.parse(name, field="session")
    identity.require_tenant(name)
    return tenant, session_id


def max_tokens(request: pb.GetContextRequest) -> int:
    """How many tokens to answer. Raises InvalidField."""
    if not 0 <= request.max_tokens <= MAX_CONTEXT_TOKENS:
        raise InvalidField(
            "max_tokens", f"must be 0 to {MAX_CONTEXT_TOKENS}, not {request.max_tokens}"
        )
    return request.max_tokens or DEFAULT_CONTEXT_TOKENS


def context_response(context: Context) -> pb.GetContextResponse:
    """The messages that fit. Raises CorruptData."""
    try:
        messages = [conversation_pb2.Message.FromString(each) for each in context.messages]
    except DecodeError as error:
        raise CorruptData(f"Failed to read a message of the session: {error}") from error
    return pb.GetContextResponse(
        messages=messages, omitted_count=context.omitted_count, tokens=context.tokens
    )


def tenant_of(parent: str) -> str:
    """The tenant. Raises InvalidField and Forbidden."""
    (tenant,) = names.TENANT.parse(parent, field="parent")
    identity.require_tenant(parent)
    return tenant


def sources(request: pb.UpsertDocumentsRequest) -> list[Source]:
    """The documents handed in. Raises InvalidField and TooLarge."""
    if not 1 <= len(request.documents) <= MAX_DOCUMENTS:
        raise InvalidField(
            "documents", f"must be 1 to {MAX_DOCUMENTS} documents, not {len(request.documents)}"
        )
    size_bytes = sum(len(each.content) for each in request.documents)
    _check_size(
        "The documents", size_bytes, MAX_CONTENT_BYTES, "Send them in parts, and split large ones."
    )
    seen: dict[str, int] = {}
    for index, each in enumerate(request.documents):
        first = seen.setdefault(each.uri, index)
        if first != index:
            raise InvalidField(
                f"documents[{index}].uri", f"is that of documents[{first}]; send each document once"
            )
    return [_source(each, f"documents[{index}]") for index, each in enumerate(request.documents)]


def _source(source: document_pb2.DocumentSource, field: str) -> Source:
    if not 1 <= len(source.uri) <= MAX_URI_CHARACTERS or _CONTROL.search(source.uri):
        raise InvalidField(
            f"{field}.uri",
            f"must be 1 to {MAX_URI_CHARACTERS} characters, none of them a control character",
        )
    title = " ".join(source.title.split())
    if len(title) > MAX_TITLE_CHARACTERS:
        raise InvalidField(
            f"{field}.title", f"must be at most {MAX_TITLE_CHARACTERS} characters long"
        )
    media_type = source.media_type.partition(";")[0].strip().lower()
    if media_type and media_type not in MEDIA_TYPES:
        raise InvalidField(
            f"{field}.media_type",
            f"must be one of {', '.join(MEDIA_TYPES)}, or empty, not {media_type[:80]!r}",
        )
    if len(source.labels) > MAX_LABELS or any(
        not key or max(len(key), len(value)) > MAX_LABEL_CHARACTERS
        for key, value in source.labels.items()
    ):
        raise InvalidField(
            f"{field}.labels",
            f"must be at most {MAX_LABELS}, with keys and values of at most "
            f"{MAX_LABEL_CHARACTERS} characters, and no empty key",
        )
    return Source(source.uri, title, media_type, source.content, dict(source.labels))


def upsert_response(tenant: str, results: Sequence[Upserted]) -> pb.UpsertDocumentsResponse:
    """What became of each document."""
    return pb.UpsertDocumentsResponse(
        results=[
            document_pb2.UpsertedDocument(
                outcome=_OUTCOMES[each.outcome],
                document=_document(tenant, each.document) if each.document else None,
                error=errors.to_status(each.error) if each.error else None,
                uri=each.uri,
            )
            for each in results
        ]
    )


def _document(tenant: str, document: Document) -> document_pb2.Document:
    result = document_pb2.Document(
        name=names.DOCUMENT.format(tenant=tenant, document=document.id),
        uri=document.uri,
        title=document.title,
        media_type=document.media_type,
        digest=document.digest,
        passage_count=document.version.passage_count,
        size_bytes=document.size_bytes,
        labels=document.labels,
    )
    result.update_time.FromDatetime(document.update_time)
    return result


def document_ids(values: Sequence[str], tenant: str, *, field: str) -> frozenset[str]:
    """The ids in documents' names. Raises InvalidField and Forbidden."""
    if len(values) > MAX_NAMES:
        raise InvalidField(field, f"must be at most {MAX_NAMES} names, not {len(values)}")
    ids: set[str] = set()
    for index, name in enumerate(values):
        owner, id_ = names.DOCUMENT.parse(name, field=f"{field}[{index}]")
        if owner != tenant:
            raise InvalidField(f"{field}[{index}]", f"must be a document of tenants/{tenant}")
        ids.add(id_)
    return frozenset(ids)


def deletion(request: pb.DeleteDocumentsRequest) -> tuple[str, frozenset[str]]:
    """The tenant and the documents to remove. Raises InvalidField and Forbidden."""
    tenant = tenant_of(request.parent)
    if not request.names:
        raise InvalidField("names", "must name at least one document")
    return tenant, document_ids(request.names, tenant, field="names")


def query(request: pb.SearchRequest) -> tuple[str, Query]:
    """The tenant and what to look for. Raises InvalidField and Forbidden."""
    tenant = tenant_of(request.parent)
    text = request.query.strip()
    if not text:
        raise InvalidField("query", "must not be empty; say in words what to look for")
    if len(text.encode()) > MAX_QUERY_BYTES:
        raise InvalidField("query", f"must be at most {MAX_QUERY_BYTES} bytes long")
    if not 0 <= request.limit <= MAX_PASSAGES:
        raise InvalidField("limit", f"must be 0 to {MAX_PASSAGES}, not {request.limit}")
    if math.isnan(request.min_score) or not 0 <= request.min_score <= 1:
        raise InvalidField("min_score", f"must be from 0 to 1, not {request.min_score}")
    return tenant, Query(
        text=text,
        limit=request.limit or DEFAULT_PASSAGES,
        min_score=request.min_score,
        documents=document_ids(request.documents, tenant, field="documents"),
    )


def search_response(tenant: str, text: str, findings: Findings) -> pb.SearchResponse:
    """The passages that fit the query `text`."""
    return pb.SearchResponse(
        passages=[_passage(tenant, text, each) for each in findings.found],
        knowledge_version=findings.knowledge_version,
    )


def _passage(tenant: str, text: str, found: Found) -> document_pb2.Passage:
    citation = conversation_pb2.Citation(
        document=names.DOCUMENT.format(tenant=tenant, document=found.document.id),
        title=found.document.title,
        uri=found.document.uri,
        start_line=found.passage.start_line,
        end_line=found.passage.end_line,
        page=found.passage.page,
        snippet=snippet(found.passage.text, text),
        score=found.score,
    )
    return document_pb2.Passage(
        citation=citation, headings=found.passage.headings, text=found.passage.text
    )


def _check_size(what: str, size_bytes: int, limit_bytes: int, remedy: str) -> None:
    if size_bytes > limit_bytes:
        raise TooLarge(
            f"{what} are {size_bytes} bytes; at most {limit_bytes} go into one call. {remedy}",
            metadata={"limit_bytes": str(limit_bytes), "size_bytes": str(size_bytes)},
        )
