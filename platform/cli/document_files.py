"""Documents on disk: found, checked before anything is sent, and cut into batches."""

import codecs
import os
import stat
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from cli.problem import Problem
from cli.wording import plural

TEXT_ENDINGS: Final = (".md", ".markdown", ".txt", ".html", ".htm")
ENDINGS: Final = (*TEXT_ENDINGS, ".pdf")
# The contract's limit on one document, and on a request.
MAX_DOCUMENT_BYTES: Final = 6 * 1024 * 1024
# A batch stays far below the limits, so that progress shows and a call is short:
# embedding takes about a second for each 40 KiB of text.
BATCH_DOCUMENTS: Final = 16
BATCH_BYTES: Final = 256 * 1024
# How many files that were left out are named.
_SHOWN: Final = 5


@dataclass(frozen=True, slots=True)
class DocumentFile:
    """A document on disk that has been checked."""

    path: Path
    # What citations show: relative to where the user stands, else absolute.
    uri: str
    size_bytes: int


@dataclass(frozen=True, slots=True)
class Found:
    """What the given paths hold."""

    documents: Sequence[DocumentFile]
    # Files inside given folders that are no documents.
    skipped: Sequence[Path]


def find(paths: Sequence[Path], *, base: Path) -> Found:
    """All documents at `paths`; folders are walked, hidden files and folders left out.

    Every file is read once to see that it can be stored. Raises Problem for
    the first path that is missing, unreadable, too large, of an unknown kind
    or not UTF-8, and for a folder without any document.
    """
    documents: dict[str, DocumentFile] = {}
    skipped: list[Path] = []
    for path in paths:
        if not path.exists():
            raise Problem(f"{path}: no such file or folder.", "Check the path.")
        if path.is_dir():
            inside = sorted(_walk(path))
            readable = [each for each in inside if _is_document(each)]
            if not readable:
                others = f" among its {plural(len(inside), 'file')}" if inside else ", it is empty"
                raise Problem(f"{path}: the folder holds no document{others}.", _kinds())
            skipped += [each for each in inside if not _is_document(each)]
        elif _is_document(path):
            readable = [path]
        else:
            ending = f"files ending in {path.suffix}" if path.suffix else "files without an ending"
            raise Problem(f"{path}: {ending} cannot be read as documents.", _kinds())
        for each in readable:
            document = _check(each, base)
            documents[document.uri] = document
    return Found(list(documents.values()), skipped)


def skipped_line(skipped: Sequence[Path]) -> str:
    """Which files were left out."""
    shown = ", ".join(str(each) for each in skipped[:_SHOWN])
    rest = len(skipped) - _SHOWN
    more = f" and {rest:,} more" if rest > 0 else ""
    return f"Left out, since they are no documents by their endings: {shown}{more}."


def batches(documents: Sequence[DocumentFile]) -> Iterator[Sequence[DocumentFile]]:
    """The documents in order, in groups that fit one request each."""
    batch: list[DocumentFile] = []
    total = 0
    for each in documents:
        if batch and (len(batch) == BATCH_DOCUMENTS or total + each.size_bytes > BATCH_BYTES):
            yield batch
            batch, total = [], 0
        batch.append(each)
        total += each.size_bytes
    if batch:
        yield batch


def _walk(folder: Path) -> Iterator[Path]:
    def refuse(error: OSError) -> None:
        raise Problem(f"{error.filename}: cannot be read: {error.strerror}.")

    for parent, folders, files in os.walk(folder, onerror=refuse):
        folders[:] = [each for each in folders if not each.startswith(".")]
        for name in files:
            if not name.startswith("."):
                yield Path(parent, name)


def _is_document(path: Path) -> bool:
    return path.suffix.lower() in ENDINGS


def _kinds() -> str:
    return f"Documents end in {', '.join(ENDINGS[:-1])} or {ENDINGS[-1]}."


def _check(path: Path, base: Path) -> DocumentFile:
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode):
            # Of a pipe the reading may never end.
            raise Problem(f"{path}: is neither a file nor a folder.", _kinds())
        if status.st_size > MAX_DOCUMENT_BYTES:
            raise Problem(
                f"{path}: has {status.st_size:,} bytes,"
                f" and a document may have {MAX_DOCUMENT_BYTES:,} at most.",
                "Split it into smaller ones.",
            )
        content = path.read_bytes()
    except OSError as error:
        raise Problem(f"{path}: cannot be read: {error.strerror}.") from error
    if path.suffix.lower() in TEXT_ENDINGS:
        offset = invalid_utf8_offset(content)
        if offset is not None:
            raise Problem(
                f"{path}: is not UTF-8 text:"
                f" invalid byte 0x{content[offset]:02x} at offset {offset}.",
                "Convert it, as with `iconv -f LATIN1 -t UTF-8`.",
            )
    return DocumentFile(path, uri_of(path, base=base), len(content))


def invalid_utf8_offset(content: bytes) -> int | None:
    """Where `content` stops being UTF-8; None where it never does."""
    try:
        codecs.utf_8_decode(content, "strict", True)
    except UnicodeDecodeError as error:
        return error.start
    return None


def uri_of(path: Path, *, base: Path) -> str:
    """What identifies the document at `path`: its path from `base`, absolute outside of it."""
    whole = Path(os.path.normpath(base / path))
    uri = (whole.relative_to(base) if whole.is_relative_to(base) else whole).as_posix()
    try:
        uri.encode("utf-8")
    except UnicodeEncodeError:
        raise Problem(f"{uri!r}: the file's name is not UTF-8.", "Rename the file.") from None
    return uri
