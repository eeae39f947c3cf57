"""Numbers as they stand before a unit: in digits, or one small word."""

from decimal import Decimal
from typing import Final

_WORDS_TEXT: Final = """
    zero one two three four five six seven eight nine ten eleven twelve thirteen fourteen
    fifteen sixteen seventeen eighteen nineteen twenty
"""
_WORDS: Final = {
    **{word: Decimal(value) for value, word in enumerate(_WORDS_TEXT.split())},
    **{word: Decimal(10 * value) for value, word in enumerate(
        ["thirty", "forty", "fifty", "sixty", "seventy", "eighty", "ninety"], start=3
    )},
    "half an": Decimal("0.5"),
    "half a": Decimal("0.5"),
    "a": Decimal(1),
    "an": Decimal(1),
    "hundred": Decimal(100),
    "a hundred": Decimal(100),
    "thousand": Decimal(1000),
    "a thousand": Decimal(1000),
}  # fmt: skip
# A part of a pattern, to be matched whatever the case. Neither "1,5" nor "1.2.3" is one.
NUMBER: Final = (
    r"(?<![\w.,])(?:(?:\d{1,3}(?:,\d{3}){1,5}|\d{1,15})(?:\.\d{1,15})?(?![.,]?\d)"
    rf"|(?:{'|'.join(sorted(_WORDS, key=len, reverse=True))})(?=[\s-]))"
)


def number(text: str) -> Decimal:
    """The value of what NUMBER matched."""
    spoken = " ".join(text.lower().split())
    return _WORDS[spoken] if spoken in _WORDS else Decimal(spoken.replace(",", ""))
