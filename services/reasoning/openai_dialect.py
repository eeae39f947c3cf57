"""Which of the optional parameters a server takes: OpenAI's models differ, and so do others."""

import re
from collections.abc import Mapping
from dataclasses import dataclass, replace
from enum import StrEnum
from typing import Any, Final, cast


class SchemaForm(StrEnum):
    """How a server is told the shape of an answer; what is weaker comes later."""

    JSON_SCHEMA = "json_schema"
    # JSON, with its shape in words.
    JSON_OBJECT = "json_object"
    # In words alone.
    WORDS = "words"


_WEAKER: Final = {
    SchemaForm.JSON_SCHEMA: SchemaForm.JSON_OBJECT,
    SchemaForm.JSON_OBJECT: SchemaForm.WORDS,
}
_TOKENS: Final = ("max_completion_tokens", "max_tokens")
# Without these an answer is poorer, and still an answer.
_DROPPED: Final = ("temperature", "seed", "stop", "stream_options")
# How servers say that a limit is known, and too high: without one an answer could cost anything.
_TOO_HIGH: Final = re.compile(r"too large|at most|exceed|maximum context|less than", re.IGNORECASE)
# How a schema is called that is wrong, by a server that takes schemas.
_WRONG_SCHEMA: Final = "invalid schema"


@dataclass(frozen=True, slots=True)
class Dialect:
    """What one model's server is sent."""

    # What it calls the limit of an answer.
    tokens: str
    schema: SchemaForm = SchemaForm.JSON_SCHEMA
    without: frozenset[str] = frozenset()

    def takes(self, parameter: str) -> bool:
        """Whether it is sent this optional parameter."""
        return parameter not in self.without

    def after(self, refusal: object, sent: Mapping[str, Any]) -> "Dialect | None":
        """What to try next; None where nothing is left that could be at fault.

        Args:
            refusal: The content of an answer 400 or 422.
            sent: The request that was refused.
        """
        refused = _refused(refusal, sent)
        if refused is None:
            return None
        if refused == "response_format":
            return replace(self, schema=_WEAKER[self.schema])
        if refused in _TOKENS:
            (other,) = (each for each in _TOKENS if each != refused)
            return replace(self, tokens=other, without=self.without | {refused})
        return replace(self, without=self.without | {refused})

    @staticmethod
    def is_of_one_request(refusal: object) -> bool:
        """Whether the refusal says nothing of other requests."""
        return _WRONG_SCHEMA in str(refusal).lower()


def _refused(refusal: object, sent: Mapping[str, Any]) -> str | None:
    """The parameter that was sent and should not have been."""
    named, words = _parameter(refusal), str(refusal)
    candidates = [each for each in ("response_format", *_TOKENS, *_DROPPED) if each in sent]
    for each in candidates:
        if each in _TOKENS and _TOO_HIGH.search(words):
            continue
        if named == each or named.startswith((f"{each}.", f"{each}[")):
            return each
        # Servers that do not name it in a field of its own name it in their words.
        if not named and each in words:
            return each
    return None


def _parameter(refusal: object) -> str:
    if not isinstance(refusal, dict):
        return ""
    content = cast(dict[str, Any], refusal)
    param: Any = content.get("param")
    return param if isinstance(param, str) else ""
