"""What may be quoted: the sentences of passages, each with where it comes from."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.sentences import Sentence, split_sentences
from services.reasoning.offline.words import stems

# A list that a sentence announces is quoted with it, up to so many items.
_MOST_ITEMS: Final = 6
# Of what a tool returned so much is read.
_MOST_CHARACTERS: Final = 200_000


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
        for citation, heading, text in _passages(result):
            context = frozenset(stems(f"{citation.title} {citation.uri} {heading}"))
            found.extend(_candidates(text, citation, context))
        if not result.citations:
            found.extend(_candidates(result.text[:_MOST_CHARACTERS], None, frozenset()))
    return found


def candidates_in_texts(texts: Sequence[str]) -> list[Candidate]:
    """The sentences of what was said before, without the questions among them."""
    return [
        each
        for text in texts
        for each in _candidates(text, None, frozenset())
        if not each.text.endswith("?")
    ]


def _passages(
    result: conversation_pb2.ToolResult,
) -> Iterator[tuple[conversation_pb2.Citation, str, str]]:
    """Each citation, the line above its passage, and the passage.

    A snippet may be only a part of it. Where the text holds the passages, each
    below a line with its number and its source, these are taken.
    """
    rest = f"\n\n{result.text[:_MOST_CHARACTERS]}"
    for number, citation in enumerate(result.citations, start=1):
        source = citation.uri or citation.title or citation.document
        _, begins, below = rest.partition(f"\n\n[{number}] {source}")
        heading, _, body = below.partition("\n")
        following = result.citations[number] if number < len(result.citations) else None
        if following is not None:
            name = following.uri or following.title or following.document
            body, more, _ = body.partition(f"\n\n[{number + 1}] {name}")
            begins = begins and more
        yield (citation, heading, body) if begins else (citation, "", citation.snippet)


def _candidates(
    text: str, citation: conversation_pb2.Citation | None, context: frozenset[str]
) -> Iterator[Candidate]:
    sentences = split_sentences(text)
    # Where the text is the whole passage, its lines can be counted.
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
