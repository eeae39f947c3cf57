"""PDF: a section for each page; there are pages instead of lines."""

import io

from services.memory.parsed_document import (
    ParsedDocument,
    Section,
    Unreadable,
    heading_text,
    paragraph_lines,
    split_lines,
)


class PdfDocumentParser:
    """Reads application/pdf."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The text of each page; Unreadable for a file that is broken, encrypted or has no text."""
        # Imported when the first PDF comes: it takes longer than everything else here.
        from pypdf import PdfReader

        try:
            reader = PdfReader(io.BytesIO(content))
            if reader.is_encrypted and not reader.decrypt(""):
                raise Unreadable("it needs a password. Save it without one and add it again.")
            title = str(reader.metadata.title or "") if reader.metadata else ""
            pages = [page.extract_text() for page in reader.pages]
        except Unreadable:
            raise
        # pypdf raises whatever a broken file leads it to, RecursionError included.
        except Exception as error:
            raise Unreadable(
                f"it is no PDF that can be read ({str(error) or type(error).__name__}). "
                "Save it again from the program that made it, without encryption."
            ) from error
        if not any(page.strip() for page in pages):
            raise Unreadable(
                "none of its pages has text. If they are scanned, run text recognition first."
            )
        sections = (
            Section((), paragraph_lines(split_lines(_clean(page)), numbered=False), number)
            for number, page in enumerate(pages, start=1)
        )
        return ParsedDocument(heading_text(_clean(title)), tuple(sections))


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: fonts may map to half a surrogate pair or to NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")
