"""The built-in tool `search_memory`."""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final, Protocol, cast

from agentmesh.common.v1.conversation_pb2 import Citation
from services.tool.tool import Answer, Effect, Invocation, ToolSpec

_DEFAULT_LIMIT: Final = 5
_SPEC: Final = ToolSpec(
    id="search_memory",
    description=(
        "Finds passages in the user's documents. Use it for every question that they may"
        " answer, and cite the passages that an answer rests on by their numbers."
    ),
    parameters={
        "type": "object",
        "properties": {
            "query": {
                "type": "string",
                "minLength": 1,
                "maxLength": 8192,
                "description": "What is looked for, in words.",
            },
            "limit": {
                "type": "integer",
                "minimum": 1,
                "maximum": 20,
                "description": f"How many passages to find; {_DEFAULT_LIMIT} if not given.",
            },
        },
        "required": ["query"],
        "additionalProperties": False,
    },
    effect=Effect.READ_ONLY,
    timeout_seconds=10.0,
)


@dataclass(frozen=True, slots=True)
class Passage:
    """A passage that was found."""

    # Where it stands.
    citation: Citation
    # The headings above it, outermost first.
    headings: Sequence[str]
    text: str


class Documents(Protocol):
    """Where passages are found."""

    async def search(self, tenant: str, query: str, limit: int) -> Sequence[Passage]:
        """The passages that fit best, best first.

        Raises DependencyUnavailable, and ToolFault where nobody can look for the query.
        """
        ...


class SearchMemoryTool:
    """Answers with numbered passages, each with where it stands, and cites them all."""

    def __init__(self, documents: Documents) -> None:
        self._documents: Final = documents

    @property
    def spec(self) -> ToolSpec:
        """What it is."""
        return _SPEC

    async def execute(self, invocation: Invocation) -> Answer:
        """Searches for `query`; finding nothing is an answer, too."""
        query = str(invocation.arguments["query"])
        limit = cast(int, invocation.arguments.get("limit", _DEFAULT_LIMIT))
        passages = await self._documents.search(invocation.tenant, query, limit)
        if not passages:
            return Answer("No passage in the documents fits this query.")
        return Answer(
            "\n\n".join(_written(number, each) for number, each in enumerate(passages, start=1)),
            citations=[each.citation for each in passages],
        )


def _written(number: int, passage: Passage) -> str:
    above = f" ({' > '.join(passage.headings)})" if passage.headings else ""
    return f"[{number}] {_place(passage.citation)}{above}\n{passage.text}"


def _place(citation: Citation) -> str:
    source = citation.uri or citation.title or citation.document
    if citation.start_line and citation.end_line > citation.start_line:
        return f"{source}, lines {citation.start_line}-{citation.end_line}"
    if citation.start_line:
        return f"{source}, line {citation.start_line}"
    if citation.page:
        return f"{source}, page {citation.page}"
    return source
