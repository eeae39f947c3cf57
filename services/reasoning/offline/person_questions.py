"""Recognises that a person is to be asked something, and words the question."""

import re
from dataclasses import dataclass
from typing import Final

_WHO: Final = (
    r"(?:me|us|them|him|her|someone|somebody|people|everyone"
    r"|(?:a|an|the|my|our|some)\s+(?:real\s+)?(?:person|human|user|colleague|operator|manager|boss"
    r"|customer|client|team|owner|admin|administrator|expert))"
)
# "Ask me which …", "first ask a person for …", "… and ask our team whether …".
_ASK: Final = re.compile(
    rf"(?:^|[,;:]\s*|\b(?:and|then|first|please|you|to)\s+)ask\s+{_WHO}\b[\s,:-]*(?P<rest>\S.*)$",
    re.IGNORECASE | re.DOTALL,
)
_QUOTED: Final = re.compile(r"[\"“]([^\"”]+)[\"”]")
_FOR: Final = re.compile(r"for\s+", re.IGNORECASE)
_ABOUT: Final = re.compile(r"about\s+", re.IGNORECASE)
_WHETHER_TO: Final = re.compile(r"(?:whether|if)\s+to\s+", re.IGNORECASE)
_WHETHER: Final = re.compile(r"(?:whether|if)\s+", re.IGNORECASE)
_TO: Final = re.compile(r"to\s+", re.IGNORECASE)
_FORMS: Final = (
    (_FOR, "What is {}?"),
    (_ABOUT, "What should I know about {}?"),
    (_WHETHER_TO, "Should I {}?"),
    (_WHETHER, "Is it true that {}?"),
    (_TO, "Please {}."),
)


@dataclass(frozen=True, slots=True)
class PersonQuestion:
    """A question that only a person can answer."""

    question: str


def find_person_question(clause: str) -> PersonQuestion | None:
    """The question that `clause` wants a person to be asked; None where it wants none."""
    match = _ASK.search(clause)
    if match is None:
        return None
    rest = " ".join(match["rest"].split())
    quoted = _QUOTED.search(rest)
    if quoted is not None:
        return PersonQuestion(quoted[1].strip())
    rest = rest.rstrip(" ?.!,;")
    if not rest:
        return None
    for beginning, form in _FORMS:
        start = beginning.match(rest)
        if start is not None and start.end() < len(rest):
            return PersonQuestion(form.format(rest[start.end() :]))
    return PersonQuestion(f"{rest[0].upper()}{rest[1:]}?")
