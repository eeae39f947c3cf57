"""What may be quoted: the sentences of passages, each with where it comes from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.sentences import Sentence, split_sentences
from services.reasoning.offline.words import stems

# A list that a sentence announces is quoted with it, up to so many items.
_MOST_ITEMS: Final = 6


@dataclass(frozen=True, slots=True)
class Candidate:
    """A sentence that may answer."""

    text: str
    # The document's passage; None for what was said in the conversation.
    citation: conversation_pb2.Citation | None
    stems: tuple[str, ...]
    # Stems of the title, the path and the heading above it.
    context: frozenset[str]
    heading: bool


def candidates_in_results(
    results: Sequence[conversation_pb2.ToolResult],
) -> list[Candidate]:
    """The sentences of everything that tools found, best passages first."""
    found: list[Candidate] = []
    for result in results:
        for citation in result.citations:
            found.extend(_cited(citation))
        if not result.citations:
            found.extend(_plain(result.text, None, frozenset()))
    return found


def candidates_in_texts(texts: Sequence[str]) -> list[Candidate]:
    """The sentences of what was said before, without the questions among them."""
    return [
        each
        for text in texts
        for each in _plain(text, None, frozenset())
        if not each.text.endswith("?")
    ]


def _cited(citation: conversation_pb2.Citation) -> Iterator[Candidate]:
    context = frozenset(stems(f"{citation.title} {citation.uri}"))
    return _plain(citation.snippet, citation, context)


def _plain(
    text: str, citation: conversation_pb2.Citation | None, context: frozenset[str]
) -> Iterator[Candidate]:
    sentences = split_sentences(text)
    # Where the snippet is the whole passage, its lines can be counted.
    counted = (
        citation is not None
        and citation.start_line > 0
        and text.rstrip("\n").count("\n") == citation.end_line - citation.start_line
    )
    above: frozenset[str] = frozenset()
    for index, sentence in enumerate(sentences):
        last = sentence.last_line
        quoted = sentence.text
        if quoted.endswith(":") and not sentence.heading:
            items = _items_after(sentences, index)
            quoted = " ".join([quoted, "; ".join(each.text for each in items)]).strip()
            last = items[-1].last_line if items else last
        own = tuple(stems(quoted))
        source = _narrowed(citation, sentence.first_line, last, quoted, counted=counted)
        yield Candidate(quoted, source, own, context | above, sentence.heading)
        if sentence.heading:
            above = frozenset(own)


def _items_after(sentences: Sequence[Sentence], index: int) -> Sequence[Sentence]:
    items: list[Sentence] = []
    for each in sentences[index + 1 : index + 1 + _MOST_ITEMS]:
        if each.heading:
            break
        items.append(each)
    return items


def _narrowed(
    citation: conversation_pb2.Citation | None, first: int, last: int, text: str, *, counted: bool
) -> conversation_pb2.Citation | None:
    if citation is None:
        return None
    narrowed = conversation_pb2.Citation()
    narrowed.CopyFrom(citation)
    narrowed.snippet = text
    if counted:
        narrowed.start_line = citation.start_line + first
        narrowed.end_line = citation.start_line + last
    return narrowed
