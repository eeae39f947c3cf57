"""Finds the sentences that answer a question, or finds that none does."""

import math
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from itertools import pairwise
from typing import Final

from services.reasoning.offline.answer_types import must_have
from services.reasoning.offline.lookups import Lookup
from services.reasoning.offline.passages import Candidate

# The share of a question's words, by weight, that an answer must have.
_ENOUGH: Final = 0.5
# What was said in passing answers only what it nearly repeats.
ENOUGH_IN_CONVERSATION: Final = 0.75
# A word in the heading or the path counts as so much of one in the sentence.
_CONTEXT_WEIGHT: Final = 0.5
_PHRASE_BONUS: Final = 0.2
_PASSAGE_BONUS: Final = 0.1
_HEADING_FACTOR: Final = 0.5
# A second sentence is quoted only where it is nearly as good as the first.
# Of the names in a question more than this share must be there.
_ENOUGH_NAMES: Final = 0.5
_NEARLY: Final = 0.85
_MOST_DOCUMENTS: Final = 5


@dataclass(frozen=True, slots=True)
class Scored:
    """A sentence, and how well it fits."""

    candidate: Candidate
    # The share of what is wanted that it says, by weight; from 0 to 1.
    coverage: float
    score: float


def best_sentences(
    lookup: Lookup, candidates: Sequence[Candidate], *, enough: float = _ENOUGH
) -> list[Candidate]:
    """The one or two sentences that fit the question best; none where nothing fits well."""
    ranked = scored(lookup.wanted, candidates)
    wanted = must_have(lookup.question)
    names = set(lookup.names)
    fitting = [
        each
        for each in ranked
        if each.coverage >= enough
        and (wanted is None or wanted.search(each.candidate.text) is not None)
        and _has_most(names, each.candidate)
    ]
    if not fitting:
        return []
    first = fitting[0]
    had = set(first.candidate.stems)
    for second in fitting[1:]:
        adds = set(lookup.wanted).intersection(second.candidate.stems) - had
        if adds and second.score >= _NEARLY * first.score:
            return [first.candidate, second.candidate]
    return [first.candidate]


def _has_most(names: set[str], candidate: Candidate) -> bool:
    """Whether the names of the question are in a sentence or above it, or most of them are."""
    if not names:
        return True
    had = names.intersection(candidate.stems) | names.intersection(candidate.context)
    return len(had) / len(names) > _ENOUGH_NAMES


def mentions(lookup: Lookup, candidates: Sequence[Candidate]) -> list[Candidate]:
    """The best sentence of each document that mentions the subject, best document first.

    Where documents of the wanted kind are among them, only these.
    """
    subject = set(lookup.wanted)
    fitting = [
        each
        for each in scored(lookup.wanted, candidates)
        if subject <= {*each.candidate.stems, *each.candidate.context}
        # A path alone does not mention anything.
        and not subject.isdisjoint(each.candidate.stems)
    ]
    # Who says it in the very words is quoted before who says it in others; sorting is stable.
    said = lookup.subject.lower()
    fitting.sort(key=lambda each: each.candidate.heading or said not in each.candidate.text.lower())
    documents: dict[str, Candidate] = {}
    for each in fitting:
        citation = each.candidate.citation
        documents.setdefault(citation.uri or citation.document if citation else "", each.candidate)
    found = list(documents.values())
    of_kind = [each for each in found if set(lookup.kinds) <= each.context]
    return (of_kind or found)[:_MOST_DOCUMENTS]


def scored(wanted: Sequence[str], candidates: Sequence[Candidate]) -> list[Scored]:
    """The sentences by how well they fit the stems `wanted`, best first."""
    if not wanted:
        return []
    seen: Counter[str] = Counter()
    for candidate in candidates:
        seen.update(set(candidate.stems).intersection(wanted))
    total = len(candidates)
    # A word that most sentences have tells less about which of them answers.
    weights = {word: 1.0 + math.log((total + 1) / (seen[word] + 1)) for word in wanted}
    pairs = set(pairwise(wanted))
    every = [_score(candidate, weights, pairs) for candidate in candidates]
    # Sorting is stable: among equals the passage that memory found better stays first.
    return sorted(every, key=lambda each: -each.score)


def _score(candidate: Candidate, weights: dict[str, float], pairs: set[tuple[str, str]]) -> Scored:
    own = set(candidate.stems)
    gained = 0.0
    for word, weight in weights.items():
        if word in own:
            gained += weight
        elif word in candidate.context:
            gained += _CONTEXT_WEIGHT * weight
    coverage = gained / sum(weights.values())
    if own.isdisjoint(weights):
        coverage = 0.0
    score = coverage
    if pairs:
        score += _PHRASE_BONUS * len(pairs.intersection(pairwise(candidate.stems))) / len(pairs)
    if candidate.citation is not None:
        score += _PASSAGE_BONUS * min(1.0, max(0.0, candidate.citation.score))
    if candidate.heading:
        score *= _HEADING_FACTOR
    return Scored(candidate, coverage, score)
