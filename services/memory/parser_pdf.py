"""PDF: a section for each page; there are pages instead of lines."""

import json
import os
import subprocess
import sys
import threading
from typing import Any, Final

from services.memory.parsed_document import (
    ParsedDocument,
    Section,
    Unreadable,
    heading_text,
    paragraph_lines,
    split_lines,
)

_READER: Final = "services.memory.pdf_pages"
# A book of a thousand pages takes half of it.
_MOST_CPU_SECONDS: Final = 120
# For a machine that has no processor time to give.
_MOST_SECONDS: Final = 600.0


class PdfDocumentParser:
    """Reads application/pdf."""

    def __init__(self, *, most_cpu_seconds: int = _MOST_CPU_SECONDS) -> None:
        """A file that takes more processor time than that is refused."""
        self._most_cpu_seconds: Final = most_cpu_seconds
        # One reader at a time has room beside the service, where both share a limit.
        self._reading: Final = threading.Lock()

    def parse(self, content: bytes) -> ParsedDocument:
        """The text of each page; Unreadable for a file that is broken, encrypted or has no text."""
        with self._reading:
            said = _read(content, self._most_cpu_seconds)
        if "unreadable" in said:
            raise Unreadable(said["unreadable"])
        pages: list[str] = said["pages"]
        if not any(page.strip() for page in pages):
            raise Unreadable(
                "none of its pages has text. If they are scanned, run text recognition first."
            )
        sections = (
            Section((), paragraph_lines(split_lines(page), numbered=False), number)
            for number, page in enumerate(pages, start=1)
        )
        return ParsedDocument(heading_text(said["title"]), tuple(sections))


def _read(content: bytes, most_cpu_seconds: int) -> dict[str, Any]:
    """What `pdf_pages` says of it; Unreadable where a limit ended that process."""
    try:
        done = subprocess.run(
            [sys.executable, "-P", "-S", "-m", _READER, str(most_cpu_seconds)],
            input=content,
            capture_output=True,
            # Nothing of ours that a strange file could ask for.
            env={"PYTHONPATH": os.pathsep.join(sys.path)},
            timeout=_MOST_SECONDS,
            check=False,
        )
    except subprocess.TimeoutExpired:
        raise _too_much() from None
    if done.returncode < 0:
        raise _too_much()
    if done.returncode:
        said = done.stderr.decode("utf-8", "replace").strip().rpartition("\n")[2]
        raise RuntimeError(f"Failed to run the reader of PDFs: {said}")
    return json.loads(done.stdout)


def _too_much() -> Unreadable:
    return Unreadable(
        "reading it takes too long or too much memory. Save it again from the program that made "
        "it, or add it in parts."
    )
