"""Second hops: what is looked for once the first search has answered a part.

"Who directed the film that was shot in Leland?" takes two passages: the first
names the film, the second is found by that name.
"""

import re
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from services.reasoning.offline.extraction import best_sentences, scored
from services.reasoning.offline.lookups import Lookup
from services.reasoning.offline.mentions import names
from services.reasoning.offline.passages import Candidate, candidates_in_results
from services.reasoning.offline.plan import SEARCH, Step
from services.reasoning.offline.words import content_words, stem, stems

Result = conversation_pb2.ToolResult

# A question inside of a question: "the film that …", "the author of the book", "Ada's mother's".
_NESTED: Final = re.compile(
    r"\w\s+(?:that|who|whom|which|where|whose|when)\s|\bof\s+(?:the|a|an)\s+\w+\s+(?:of|in|by|with|who)\b"
    r"|['’]s\s+\w+['’]s|\b(?:of|in|by|for|to)\s+(?:the|a|an)?\s*[^?]{3,60}['’]s\s+\w+"
    r"|\bof\s+[^?]{3,60}\s+(?:of|from|in|by)\s|\b(?:performer|author|director|creator|founder|spouse"
    r"|father|mother|singer|writer|composer|screenwriter|producer|birthplace)\s+of\b",
    re.IGNORECASE,
)
# A sentence that says so much of the question needs no second.
_WHOLE: Final = 0.9
_ENOUGH_OF_REST: Final = 0.5
_LEAST_FIRST: Final = 0.25
_MOST_NAMES: Final = 3
_RESULTS: Final = 5


def follow_ups(steps: Sequence[Step], results: Mapping[int, Result]) -> Sequence[Step]:
    """The searches that go on from what was found; none where that answers already."""
    further: list[Step] = []
    for index, step in enumerate(steps):
        result = results.get(index)
        if not isinstance(step.subject, Lookup) or result is None or result.is_error:
            continue
        hop = _second(step.subject, candidates_in_results([result]))
        if hop is not None:
            arguments = {"query": hop.query, "limit": hop.limit}
            further.append(Step(hop, SEARCH, arguments, callable=True, goes_on_from=index))
    return further


def both(lookup: Lookup, hop: Lookup, result: Result, further: Result) -> Sequence[Candidate]:
    """The sentence that names what is looked for, and the one that says the rest; none without."""
    found = _first(lookup, candidates_in_results([result]))
    if found is None or further.is_error:
        return []
    first, _ = found
    bridge = [set(stems(each)) for each in hop.bridge]
    candidates = [
        each
        for each in candidates_in_results([further, result])
        if each.text != first.text and any(name <= {*each.stems, *each.context} for name in bridge)
    ]
    rest = replace(lookup, wanted=hop.wanted, names=())
    second = best_sentences(rest, candidates, enough=_ENOUGH_OF_REST)[:1]
    return [first, *second] if second else []


def _first(
    lookup: Lookup, candidates: Sequence[Candidate]
) -> tuple[Candidate, Sequence[str]] | None:
    """The sentence that says most of the question, and the stems that it lacks; None where
    it says all of it, or next to nothing."""
    ranked = scored(lookup.wanted, candidates)
    if not ranked or not _LEAST_FIRST <= ranked[0].coverage < _WHOLE:
        return None
    first = ranked[0].candidate
    has = {*first.stems, *first.context}
    return first, [each for each in lookup.wanted if each not in has]


def _second(lookup: Lookup, candidates: Sequence[Candidate]) -> Lookup | None:
    """What is looked for next: what the first sentence lacks, of the names that it has."""
    if lookup.subject or _NESTED.search(f"{lookup.question} ") is None:
        return None
    found = _first(lookup, candidates)
    if found is None:
        return None
    first, lacking = found
    asked = set(stems(lookup.question))
    title = first.citation.title if first.citation is not None else ""
    said = [title, *(each.text for each in names(first.text))]
    bridge = [each for each in dict.fromkeys(said) if each and not set(stems(each)) <= asked]
    if not bridge or not lacking:
        return None
    words = [each for each in content_words(lookup.question) if stem(each) in lacking]
    query = " ".join([*words, *bridge[:_MOST_NAMES]])
    return replace(
        lookup,
        query=query,
        limit=_RESULTS,
        wanted=tuple(lacking),
        bridge=tuple(bridge[:_MOST_NAMES]),
    )
