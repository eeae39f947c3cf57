"""Splits what a person wrote into the single things that are asked for."""

import re
from dataclasses import dataclass
from enum import Enum
from typing import Final

from services.reasoning.offline.sentences import split_sentences
from services.reasoning.offline.words import words

_QUESTION_WORDS_TEXT: Final = """
    what what's which who whom whose when where why how is are was were does do did has have
    can could will would should may
"""
_QUESTION_WORDS: Final = frozenset(_QUESTION_WORDS_TEXT.split())
_LOOK_UP_WORDS_TEXT: Final = """
    find show list search look lookup tell explain describe summarise summarize name quote
    cite give compare define
"""
_LOOK_UP_WORDS: Final = frozenset(_LOOK_UP_WORDS_TEXT.split())
_COMPUTE_WORDS_TEXT: Final = """
    calculate compute evaluate solve work add subtract multiply divide sum convert increase
    decrease raise reduce square double halve use call run invoke
"""
_COMPUTE_WORDS: Final = frozenset(_COMPUTE_WORDS_TEXT.split())
_LEAD: Final = re.compile(
    r"^(?:(?:and|then|also|so|but|now|next|finally|first|secondly|second|please|kindly|ok|okay"
    r"|hi|hello|hey|thanks|well)\b[\s,:]*)+",
    re.IGNORECASE,
)
# "…, and which …": a conjunction starts something new only before words that
# ask or command, so that "2 and 3", "services that run and have no fallback"
# and "multiply 2 by 3 and add 4" stay together. Blanks are looked at from their first one only.
_JOINT: Final = re.compile(
    r"""
    (?:(?:(?<!\s)\s+)?,\s*|(?<!\s)\s+)(?:and|then|also|plus|but)(?:\s+(?:then|also|please))*\s+(?=
        (?:what|what's|which|who|whom|whose|when|where|why|how|find|show|list|search|look|tell
          |explain|describe|summari[sz]e|give|calculate|compute|evaluate|solve|use|call|run)\b
        |ask\s+(?:me|us|them|someone|somebody|an?|the|my|our)\b
        |(?:wait|pause)\s+(?:for\s+)?(?:\d|(?:an?|one|two|three|four|five|six|seven|eight|nine|ten|half
         |until)\b)
        |(?:is|are|was|were|does|do|did|has|have|can|could|should|will|would)\s
         (?:it|there|the|this|that|these|those|we|you|they|i|our|my|your|their|a|an|any)\b
    )
    |(?:(?<!\s)\s+)?;\s*
    """,
    re.IGNORECASE | re.VERBOSE,
)
_TELLS: Final = re.compile(
    r"(?:i|we|he|she|it|they|you|this|that|these|those|there|the|a|an|my|our|your|his|her|their)\b"
    r"|\w+\s+(?:is|are|was|were|has|had|have|did|will)\b",
    re.IGNORECASE,
)
_WANTS: Final = re.compile(
    r"(?:i|we)(?:\s+(?:need|want|would\s+like|wish|have\s+to|must|am\s+looking|was\s+wondering)"
    r"|['’]d\s+like|['’]m\s+looking)\b|you\s+(?:must|should|need)\b",
    re.IGNORECASE,
)
_POINT: Final = re.compile(r"\d\.$")
_MARK: Final = re.compile(r"\s*([-+*]|\d{1,3}[.)])\s+[\d(]")
# A person asks a handful of things; what follows is not planned for.
_MOST_CLAUSES: Final = 16
MOST_CHARACTERS: Final = 8000


class ClauseKind(Enum):
    """What a clause wants."""

    QUESTION = "question"
    # "Find …", "calculate …".
    COMMAND = "command"
    STATEMENT = "statement"


@dataclass(frozen=True, slots=True)
class Clause:
    """One thing that is asked for or said."""

    text: str
    kind: ClauseKind


def only_tells(clause: Clause) -> bool:
    """Whether a clause tells something, and neither asks nor wants anything: "I sold it"."""
    return (
        clause.kind is ClauseKind.STATEMENT
        and _TELLS.match(clause.text) is not None
        and _WANTS.match(clause.text) is None
    )


def split_request(text: str) -> list[Clause]:
    """The clauses of a request in order; at most 16 of its first 8,000 characters."""
    clauses: list[Clause] = []
    for sentence in _sentences(text[:MOST_CHARACTERS]):
        asks = sentence.endswith("?")
        for part in _JOINT.split(sentence):
            body = _LEAD.sub("", part.strip()).strip()
            if body:
                clauses.append(Clause(body, _kind(body, asks=asks)))
    return clauses[:_MOST_CLAUSES]


def _sentences(text: str) -> list[str]:
    """The sentences of `text`; numbers stay with the point and the minus before them.

    "12. 5 + 1" may be one number, and "- 5 + 3" alone is no item of a list.
    """
    found: list[str] = []
    for sentence in split_sentences(text):
        if found and sentence.text[:1].isdigit() and _POINT.search(found[-1]) is not None:
            found[-1] = f"{found[-1]} {sentence.text}"
        else:
            found.append(sentence.text)
    if len(found) == 1 and (sign := _MARK.match(text)) is not None:
        found[0] = f"{sign[1]} {found[0]}"
    return found


def _kind(body: str, *, asks: bool) -> ClauseKind:
    first = next(iter(words(body[:80])), "")
    if first in _LOOK_UP_WORDS or first in _COMPUTE_WORDS:
        return ClauseKind.COMMAND
    if asks or first in _QUESTION_WORDS:
        return ClauseKind.QUESTION
    return ClauseKind.STATEMENT
