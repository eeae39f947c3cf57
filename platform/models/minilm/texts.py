"""Which texts can be embedded: those that are valid Unicode."""

from collections.abc import Sequence
from typing import Final


class InvalidText(ValueError):
    """A text that is not valid Unicode; `index` is its place in the call."""

    def __init__(self, index: int, description: str) -> None:
        super().__init__(f"texts[{index}]: {description}")
        self.index: Final = index
        self.description: Final = description


def check_texts(texts: Sequence[str]) -> None:
    """Raises InvalidText for the first text that cannot be encoded."""
    for index, text in enumerate(texts):
        try:
            text.encode()
        except UnicodeEncodeError as error:
            description = f"has a lone surrogate at character {error.start}"
            raise InvalidText(index, description) from error
