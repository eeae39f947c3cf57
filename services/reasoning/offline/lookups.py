"""Turns a question into what is looked for in documents."""

import re
from dataclasses import dataclass
from typing import Final

from services.reasoning.offline.words import content_stems, content_words, stem

_MENTIONS: Final = (
    r"(?:mention(?:s|ed|ing)?|refer(?:s)?\s+to|talks?\s+about|discuss(?:es)?|covers?|describes?"
    r"|contains?|explains?|says?\s+(?:something\s+|anything\s+)?about|deals?\s+with|(?:is|are)\s+about)"
)
_MENTIONED: Final = r"(?:mentioned|described|documented|covered|discussed|explained|defined)"
_VERB_FIRST: Final = r"(?!(?:does|do|did|is|are|was|were|has|have|can|could|should|would|will)\b)"
# "Which of our runbooks mentions rate limits", "list the pages that cover X".
_WHICH_MENTIONS: Final = re.compile(
    rf"""
    ^(?:(?:which|what)\s+{_VERB_FIRST}
       |(?:find|list|show|name|give)\s+(?:me\s+)?(?:all\s+|every\s+|each\s+)?)
    (?:of\s+)?(?:the\s+|our\s+|my\s+|your\s+|these\s+|all\s+)*(?P<kind>\w[^?]{{0,60}}?)\s+
    (?:that\s+|which\s+)?{_MENTIONS}\s+(?P<subject>[^?]+?)[\s?.!]*$
    """,
    re.IGNORECASE | re.VERBOSE,
)
# "Where are rate limits described", "are rate limits mentioned in our runbooks".
_MENTIONED_WHERE: Final = re.compile(
    rf"""
    ^(?:where|in\s+(?:which|what)\s+(?P<kind>\w[^?]{{0,40}}?))?\s*(?:is|are)\s+(?P<subject>[^?]+?)\s+
    {_MENTIONED}(?:\s+(?:in|by)\s+(?:the\s+|our\s+|my\s+|any\s+|all\s+)*(?P<kind_after>[^?]{{1,40}}?)
    |\s+anywhere)?[\s?.!]*$
    """,
    re.IGNORECASE | re.VERBOSE,
)
# What says only that something should be looked for.
_COMMAND: Final = re.compile(
    r"^(?:(?:can|could|would)\s+you\s+)?(?:please\s+)?"
    r"(?:search|look|find|show|tell|give|list|explain|describe|summari[sz]e|quote|cite|name)\b"
    r"(?:\s+(?:up|me|us|in|through|our|the|my|documents?|docs|memory|files?|for|about|out|what|all))*\s+",
    re.IGNORECASE,
)
# Fewer words than this of its own, and a question goes on from the one before.
_FEWEST_WORDS: Final = 2
_ANY_DOCUMENT: Final = frozenset(["document", "doc", "file", "page", "text", "sourc", "one"])
_CAPITAL: Final = re.compile(r"(?<![\w'’])[A-Z][\w'’-]*")
_RESULTS: Final = 5
_RESULTS_OF_A_LIST: Final = 8


@dataclass(frozen=True, slots=True)
class Lookup:
    """Something to be found in documents."""

    # The question as it was asked.
    question: str
    # What the search is given.
    query: str
    # How many passages to ask for.
    limit: int
    # Stems that a passage should have.
    wanted: tuple[str, ...]
    # What should be mentioned, as written; empty where the question is of another kind.
    subject: str = ""
    # Stems of the kind of document that is asked for: `runbook`.
    kinds: tuple[str, ...] = ()
    # Stems of the names in the question.
    names: tuple[str, ...] = ()
    # Names that an earlier search brought up, in a search that goes on from it.
    bridge: tuple[str, ...] = ()


def make_lookup(clause: str, *, before: str = "") -> Lookup:
    """What `clause` looks for. `before` is the question that it may go on from."""
    question = clause.rstrip(" ?.!")
    match = _WHICH_MENTIONS.match(question) or _MENTIONED_WHERE.match(question)
    if match is not None:
        groups = match.groupdict()
        kind = groups.get("kind") or groups.get("kind_after") or ""
        subject = match["subject"].strip()
        if content_words(subject):
            return _mention(question, subject, kind)
    query = _COMMAND.sub("", question, count=1) or question
    wanted = content_stems(query)
    if len(wanted) < _FEWEST_WORDS and before:
        earlier = [word for word in content_words(before) if stem(word) not in wanted]
        query = " ".join([query, *earlier])
        wanted = content_stems(query)
    return Lookup(question, query, _RESULTS, tuple(wanted), names=_names(question))


def _names(question: str) -> tuple[str, ...]:
    """Stems of the words with capitals, but for the first."""
    _, _, rest = question.partition(" ")
    said = [
        stem(word)
        for match in _CAPITAL.finditer(rest)
        for word in content_words(match[0])
        if not match[0].isupper() or len(match[0]) > 1
    ]
    return tuple(dict.fromkeys(said))


def _mention(question: str, subject: str, kind: str) -> Lookup:
    query = " ".join(dict.fromkeys([*content_words(subject), *content_words(kind)]))
    return Lookup(
        question,
        query,
        _RESULTS_OF_A_LIST,
        tuple(content_stems(subject)),
        subject,
        tuple(each for each in content_stems(kind) if each not in _ANY_DOCUMENT),
    )
