"""Reads a PDF in a process of its own: from standard input, as JSON to standard output.

A PDF is a program, and one of a kilobyte may ask for years of work or any amount of memory: by
pages that are the same one a million times, or by pages that unpack to gigabytes. Nothing in a
process ends that from within, so it has limits which the system enforces, and takes no other
work along.
"""

import io
import json
import resource
import sys
from typing import Any, Final

_MOST_MEMORY_BYTES: Final = 512 << 20
# More than any document may have as passages.
_MOST_CHARACTERS: Final = 16_000_000


class _Refused(Exception):
    """Why its text cannot be had, and what to do about it."""


def pages_of(content: bytes) -> dict[str, Any]:
    """`title` and `pages` of a PDF, or why it is `unreadable`."""
    from pypdf import PdfReader

    try:
        reader = PdfReader(io.BytesIO(content))
        if reader.is_encrypted and not reader.decrypt(""):
            raise _Refused("it needs a password. Save it without one and add it again.")
        title = str(reader.metadata.title or "") if reader.metadata else ""
        pages: list[str] = []
        left = _MOST_CHARACTERS
        for page in reader.pages:
            pages.append(_clean(page.extract_text()))
            left -= len(pages[-1])
            if left < 0:
                raise _Refused(f"it has more than {_MOST_CHARACTERS} characters. Add it in parts.")
    except _Refused as refused:
        return {"unreadable": str(refused)}
    except MemoryError:
        return {"unreadable": "reading it takes too much memory. Add it in parts."}
    # pypdf raises whatever a broken file leads it to, RecursionError included.
    except Exception as error:
        return {
            "unreadable": f"it is no PDF that can be read ({str(error) or type(error).__name__}). "
            "Save it again from the program that made it, without encryption."
        }
    return {"title": _clean(title), "pages": pages}


def _clean(text: str) -> str:
    """Text that can be written as UTF-8: fonts may map to half a surrogate pair or to NUL."""
    return text.encode("utf-8", "replace").decode("utf-8").replace("\0", "")


def main() -> None:
    """Reads one PDF, in as many seconds of processor time as the first argument says."""
    seconds = int(sys.argv[1])
    resource.setrlimit(resource.RLIMIT_CPU, (seconds, seconds))
    resource.setrlimit(resource.RLIMIT_AS, (_MOST_MEMORY_BYTES, _MOST_MEMORY_BYTES))
    json.dump(pages_of(sys.stdin.buffer.read()), sys.stdout)


if __name__ == "__main__":
    main()
