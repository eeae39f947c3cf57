"""Reading documents: which parser takes which, and what to say where none can."""

from collections.abc import Mapping
from contextlib import suppress
from pathlib import PurePosixPath
from typing import Final, Protocol
from urllib.parse import urlsplit

from meshkit.errors import UnreadableDocument
from services.memory.document import Source
from services.memory.parsed_document import ParsedDocument, Unreadable

MARKDOWN: Final = "text/markdown"
TEXT: Final = "text/plain"
HTML: Final = "text/html"
PDF: Final = "application/pdf"
MEDIA_TYPES: Final = (MARKDOWN, TEXT, HTML, PDF)

# By ending of the name; README and the like have none.
_BY_ENDING: Final[Mapping[str, str]] = {
    ".md": MARKDOWN,
    ".markdown": MARKDOWN,
    ".txt": TEXT,
    ".text": TEXT,
    "": TEXT,
    ".html": HTML,
    ".htm": HTML,
    ".xhtml": HTML,
    ".pdf": PDF,
}


class Parser(Protocol):
    """Reads one media type."""

    def parse(self, content: bytes) -> ParsedDocument:
        """The document; Unreadable where the bytes are not of this media type."""
        ...


class DocumentReader:
    """Picks a parser and names the document."""

    def __init__(self, parsers: Mapping[str, Parser]) -> None:
        """`parsers` by media type."""
        self._parsers: Final = parsers

    def media_type(self, source: Source) -> str:
        """The one given, or by the end of the uri; UnreadableDocument where that is unknown."""
        if source.media_type:
            return source.media_type
        media_type = _BY_ENDING.get(_path(source.uri).suffix.lower())
        if media_type is None:
            raise UnreadableDocument(
                f"Failed to read {source.uri}: its ending is none of "
                f"{', '.join(ending for ending in _BY_ENDING if ending)}. "
                f"Give its media_type, one of {', '.join(MEDIA_TYPES)}."
            )
        return media_type

    def read(self, source: Source) -> ParsedDocument:
        """The document with a title, from the content or else the uri's last part.

        Raises UnreadableDocument. Takes long for large documents: call it in a thread.
        """
        media_type = self.media_type(source)
        try:
            if not source.content:
                raise Unreadable("it is empty.")
            parsed = self._parsers[media_type].parse(source.content)
            if not any(line.text.strip() for each in parsed.sections for line in each.lines):
                raise Unreadable("there is no text in it.")
        except Unreadable as error:
            raise UnreadableDocument(f"Failed to read {source.uri}: {error}") from error
        title = source.title or parsed.title or _path(source.uri).name or source.uri
        return ParsedDocument(title, parsed.sections)


def _path(uri: str) -> PurePosixPath:
    # What only looks like an address, such as `notes://[draft]`, is a name like any other.
    with suppress(ValueError):
        if "://" in uri:
            # Without a query: the ending is that of the path.
            uri = urlsplit(uri).path
    return PurePosixPath(uri.replace("\\", "/"))
