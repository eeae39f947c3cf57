"""PDF."""

import io
from collections.abc import Sequence

import pytest
from pypdf import PdfReader, PdfWriter

from services.memory.parsed_document import Unreadable
from services.memory.parser_pdf import PdfDocumentParser


def pdf(*pages: str, title: str = "") -> bytes:
    """A PDF with a line of text on each page."""
    kids = " ".join(f"{4 + 2 * n} 0 R" for n in range(len(pages)))
    objects = [
        "<< /Type /Catalog /Pages 2 0 R >>",
        f"<< /Type /Pages /Count {len(pages)} /Kids [{kids}] >>",
        "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
    ]
    for n, text in enumerate(pages):
        stream = f"BT /F1 12 Tf 20 100 Td ({text}) Tj ET" if text else ""
        objects += [
            "<< /Type /Page /Parent 2 0 R /MediaBox [0 0 300 200] "
            f"/Resources << /Font << /F1 3 0 R >> >> /Contents {5 + 2 * n} 0 R >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
        ]
    objects.append(f"<< /Title ({title}) >>")
    return _file(objects)


def _file(objects: Sequence[str]) -> bytes:
    """The first of them is the catalog, the last one the metadata."""
    body = "%PDF-1.4\n"
    offsets: list[int] = []
    for number, each in enumerate(objects, start=1):
        offsets.append(len(body))
        body += f"{number} 0 obj\n{each}\nendobj\n"
    table = "".join(f"{offset:010d} 00000 n \n" for offset in offsets)
    trailer = f"<< /Size {len(objects) + 1} /Root 1 0 R /Info {len(objects)} 0 R >>"
    return (
        f"{body}xref\n0 {len(objects) + 1}\n0000000000 65535 f \n{table}"
        f"trailer\n{trailer}\nstartxref\n{len(body)}\n%%EOF"
    ).encode()


def _encrypted(password: str) -> bytes:
    writer = PdfWriter(clone_from=PdfReader(io.BytesIO(pdf("Secret."))))
    writer.encrypt(password, owner_password="owner", algorithm="RC4-128")
    out = io.BytesIO()
    writer.write(out)
    return out.getvalue()


def test_each_page_is_a_section() -> None:
    """With its number, and without lines."""
    document = PdfDocumentParser().parse(pdf("One page.", "", "Another page.", title="Both"))
    assert document.title == "Both"
    assert [
        (each.page, [(line.number, line.text) for line in each.lines if line.text.strip()])
        for each in document.sections
    ] == [(1, [(0, "One page.")]), (2, []), (3, [(0, "Another page.")])]


def test_one_that_opens_without_a_password_is_read() -> None:
    """Many are encrypted only against changes."""
    document = PdfDocumentParser().parse(_encrypted(""))
    assert document.sections[0].lines[0].text == "Secret."


@pytest.mark.parametrize(
    ("content", "cause"),
    [
        (_encrypted("key"), "it needs a password. Save it without one and add it again."),
        (pdf(""), "none of its pages has text. If they are scanned, run text recognition first."),
        (pdf(), "none of its pages has text. If they are scanned, run text recognition first."),
    ],
)
def test_one_without_readable_text_says_why(content: bytes, cause: str) -> None:
    """And what to do."""
    with pytest.raises(Unreadable) as caught:
        PdfDocumentParser().parse(content)
    assert str(caught.value) == cause


@pytest.mark.parametrize("content", [b"%PDF-1.4\nrubbish", b"no pdf", pdf("text")[:200]])
def test_a_broken_one_is_unreadable(content: bytes) -> None:
    """Whatever the library makes of it."""
    with pytest.raises(
        Unreadable, match=r"it is no PDF that can be read|none of its pages has text"
    ):
        PdfDocumentParser().parse(content)


def _pages_of_pages(levels: int, each: int) -> bytes:
    """One page, which stands in a tree that names every branch so many times."""
    kids = [f"{3 + level} 0 R " * each for level in range(levels)]
    stream = "BT /F1 12 Tf (again) Tj ET"
    return _file(
        [
            "<< /Type /Catalog /Pages 2 0 R >>",
            *(f"<< /Type /Pages /Count 1 /Kids [{names}] >>" for names in kids),
            "<< /Type /Page /MediaBox [0 0 300 200] "
            f"/Resources << /Font << /F1 {levels + 4} 0 R >> >> /Contents {levels + 5} 0 R >>",
            "<< /Type /Font /Subtype /Type1 /BaseFont /Helvetica >>",
            f"<< /Length {len(stream)} >>\nstream\n{stream}\nendstream",
            "<< >>",
        ]
    )


def test_one_that_unfolds_without_end_is_refused() -> None:
    """A kilobyte that asks for more than its share of the processor."""
    content = _pages_of_pages(levels=3, each=40)
    assert len(content) < 2_000
    with pytest.raises(Unreadable) as caught:
        PdfDocumentParser(most_cpu_seconds=1).parse(content)
    assert str(caught.value) == (
        "reading it takes too long or too much memory. Save it again from the program that made "
        "it, or add it in parts."
    )
