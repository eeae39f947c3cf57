"""Plain text: one section, blocks between blank lines."""

from services.memory.parsed_document import (
    ParsedDocument,
    Section,
    decode_lines,
    paragraph_lines,
)


class TextParser:
    """Reads text/plain."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The text as it is; Unreadable where it is not UTF-8."""
        lines = paragraph_lines(decode_lines(content), numbered=True)
        return ParsedDocument("", (Section((), lines),))
