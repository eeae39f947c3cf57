"""Texts of others, as they stand in an answer."""

from typing import Final

LONGEST_QUOTE: Final = 320


def shortened(text: str, length: int) -> str:
    """`text` up to the last whole word within `length`."""
    text = text.strip()
    if len(text) <= length:
        return text
    return text[:length].rsplit(None, 1)[0].rstrip(",;:") + "…"


def sentence(text: str) -> str:
    """`text`, shortened to a quote, with an end mark."""
    text = shortened(text, LONGEST_QUOTE) or "no reason was given"
    return text if text.endswith((".", "!", "?", "…")) else f"{text}."
