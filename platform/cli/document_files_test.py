"""Documents on disk: found, checked, cut into batches."""

import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from cli import document_files
from cli.document_files import BATCH_BYTES, BATCH_DOCUMENTS, DocumentFile
from cli.problem import Problem


def _write(folder: Path, name: str, content: bytes = b"text") -> Path:
    path = folder / name
    path.parent.mkdir(parents=True, exist_ok=True)
    path.write_bytes(content)
    return path


def test_folders_are_walked(tmp_path: Path) -> None:
    """Documents are found at any depth in order; hidden and other files are left out."""
    for name in (
        "docs/b.md",
        "docs/a/c.TXT",
        "docs/a/d.html",
        "docs/.git/e.md",
        "docs/.f.md",
        "docs/g.py",
    ):
        _write(tmp_path, name)
    found = document_files.find([tmp_path / "docs"], base=tmp_path)
    assert [each.uri for each in found.documents] == ["docs/a/c.TXT", "docs/a/d.html", "docs/b.md"]
    assert found.skipped == [tmp_path / "docs/g.py"]


def test_a_document_is_found_once(tmp_path: Path) -> None:
    """The same file by two paths is one document."""
    path = _write(tmp_path, "docs/a.md")
    found = document_files.find(
        [tmp_path / "docs", path, tmp_path / "docs/../docs/a.md"], base=tmp_path
    )
    assert [each.uri for each in found.documents] == ["docs/a.md"]


def test_the_uri_is_seen_from_the_base(tmp_path: Path) -> None:
    """Inside the base a document has a relative uri, outside of it an absolute one."""
    inside, outside = tmp_path / "here", tmp_path / "there"
    _write(inside, "a.md")
    other = _write(outside, "b.md")
    found = document_files.find([inside / "a.md", other], base=inside)
    assert [each.uri for each in found.documents] == ["a.md", str(other)]


@pytest.mark.parametrize(
    ("name", "content", "message"),
    [
        ("x.docx", b"text", "files ending in .docx cannot be read as documents."),
        ("x", b"text", "files without an ending cannot be read as documents."),
        ("x.md", b"caf\xe9 cr\xe8me", "is not UTF-8 text: invalid byte 0xe9 at offset 3."),
        ("x.txt", b"a" * 70_000 + b"\xff", "is not UTF-8 text: invalid byte 0xff at offset 70000."),
        (
            "x.pdf",
            b"0" * (6 << 20) + b"0",
            "has 6,291,457 bytes, and a document may have 6,291,456 at most.",
        ),
    ],
)
def test_what_cannot_be_a_document_is_named(
    tmp_path: Path, name: str, content: bytes, message: str
) -> None:
    """The first file that cannot be used is named, with what is wrong and what to do."""
    path = _write(tmp_path, name, content)
    with pytest.raises(Problem) as caught:
        document_files.find([path], base=tmp_path)
    assert caught.value.message == f"{path}: {message}"
    assert caught.value.remedy


def test_what_has_no_end_is_not_read(tmp_path: Path) -> None:
    """A pipe that nobody writes to is refused; a file is too large before it is read."""
    os.mkfifo(tmp_path / "pipe.md")
    with pytest.raises(Problem, match=rf"^{tmp_path}/pipe.md: is neither a file nor a folder\.$"):
        document_files.find([tmp_path / "pipe.md"], base=tmp_path)
    huge = _write(tmp_path, "huge.md")
    os.truncate(huge, 1 << 40)
    with pytest.raises(Problem, match=rf"^{huge}: has 1,099,511,627,776 bytes, "):
        document_files.find([huge], base=tmp_path)


def test_a_missing_path_is_named(tmp_path: Path) -> None:
    """A path that is not there is named."""
    with pytest.raises(Problem, match=rf"^{tmp_path}/gone: no such file or folder\.$"):
        document_files.find([tmp_path / "gone"], base=tmp_path)


@pytest.mark.parametrize(
    ("file", "message"), [("x.py", " among its 1 file."), (".hidden.md", ", it is empty.")]
)
def test_a_folder_without_documents_is_named(tmp_path: Path, file: str, message: str) -> None:
    """A folder from which nothing can be read is no success."""
    _write(tmp_path, f"docs/{file}")
    with pytest.raises(Problem) as caught:
        document_files.find([tmp_path / "docs"], base=tmp_path)
    assert caught.value.message == f"{tmp_path}/docs: the folder holds no document{message}"


def test_pdf_may_hold_any_bytes(tmp_path: Path) -> None:
    """Only text has to be UTF-8."""
    path = _write(tmp_path, "x.pdf", b"%PDF-1.7 \xff\xfe")
    assert len(document_files.find([path], base=tmp_path).documents) == 1


@given(st.binary(max_size=200))
def test_the_offset_of_invalid_utf8(content: bytes) -> None:
    """Everything before the offset is UTF-8, and None means that all of it is."""
    offset = document_files.invalid_utf8_offset(content)
    if offset is None:
        content.decode("utf-8")
    else:
        content[:offset].decode("utf-8")
        with pytest.raises(UnicodeDecodeError):
            content.decode("utf-8")


@given(st.lists(st.integers(min_value=0, max_value=3 * BATCH_BYTES)))
def test_batches_keep_order_and_bounds(sizes: list[int]) -> None:
    """No batch is too large but for a single large document, and none is lost."""
    documents = [DocumentFile(Path(str(n)), str(n), size) for n, size in enumerate(sizes)]
    batches = list(document_files.batches(documents))
    assert [each for batch in batches for each in batch] == documents
    for batch in batches:
        assert 1 <= len(batch) <= BATCH_DOCUMENTS
        assert len(batch) == 1 or sum(each.size_bytes for each in batch) <= BATCH_BYTES


def test_skipped_files_are_counted() -> None:
    """A few of the files that were left out are named, the others counted."""
    paths = [Path(f"{n}.py") for n in range(7)]
    line = document_files.skipped_line(paths)
    assert line == (
        "Left out, since they are no documents by their endings:"
        " 0.py, 1.py, 2.py, 3.py, 4.py and 2 more."
    )
