"""What an answer must have by the question's first words: a number, a time, a year."""

import re
from typing import Final

_NUMBER_WORDS: Final = (
    r"one|two|three|four|five|six|seven|eight|nine|ten|eleven|twelve|dozen|hundred|thousand|million"
    r"|billion|half|none|no|both|once|twice|single|several|all|unlimited|zero|as\s+many"
)
_NUMBER: Final = re.compile(rf"\d|\b(?:{_NUMBER_WORDS})\b", re.IGNORECASE)
_YEAR: Final = re.compile(r"\b\d{3,4}s?\b")
_TIME: Final = re.compile(
    r"\d|\b(?:after|before|when|whenever|once|until|till|during|while|every|each|if|on|upon|as\s+soon"
    r"|at|in|immediately|never|always|daily|weekly|monthly|today|now|soon|century|decade|year|month"
    r"|week|day|morning|evening|night|noon|midnight)\b",
    re.IGNORECASE,
)
_EXACT_TIME: Final = re.compile(
    r"\d|\b(?:century|decade|january|february|march|april|may|june|july|august|september|october"
    r"|november|december|monday|tuesday|wednesday|thursday|friday|saturday|sunday|today|yesterday"
    r"|tomorrow|spring|summer|autumn|winter|after|before|during|until|every|ago)\b",
    re.IGNORECASE,
)
_FORMS: Final = (
    (re.compile(r"\b(?:what|which)\s+year\b|\bin\s+what\s+year\b", re.IGNORECASE), _YEAR),
    (re.compile(r"^how\s+(?:many|much|old|long|far|tall|high|large)\b", re.IGNORECASE), _NUMBER),
    (re.compile(r"^when\s+(?:was|were|did)\b", re.IGNORECASE), _EXACT_TIME),
    (re.compile(r"^when\b", re.IGNORECASE), _TIME),
)


def must_have(question: str) -> re.Pattern[str] | None:
    """A pattern that an answer to `question` must have; None for any answer."""
    return next((wanted for form, wanted in _FORMS if form.search(question)), None)
