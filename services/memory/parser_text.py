"""Plain text: one section, blocks between blank lines."""

from services.memory.parsed_document import (
    ParsedDocument,
    Section,
    decode,
    paragraph_lines,
    split_lines,
)


class TextParser:
    """Reads text/plain."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The text as it is; Unreadable where it is not UTF-8."""
        lines = paragraph_lines(split_lines(decode(content)), numbered=True)
        return ParsedDocument("", (Section((), lines),))
