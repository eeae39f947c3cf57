"""A page that points to a file that is not there is found."""

from pathlib import Path

import pytest

from tools import doc_paths


def test_names_what_is_missing(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """Links count from the page, paths from the root; addresses and headings are left alone."""
    (tmp_path / "docs").mkdir()
    (tmp_path / "docs/there.md").write_text("# There\n")
    (tmp_path / "docs/page.md").write_text(
        "[a](there.md) [b](there.md#part) [c](https://example.com/x) [d](#here)\n"
        "[e](gone.md) `docs/there.md` `docs/gone.py` `not/a/path` `plain.py`\n"
    )
    monkeypatch.chdir(tmp_path)
    assert doc_paths.main(["docs/page.md"]) == 1
    assert capsys.readouterr().out == (
        "docs/page.md:2: there is no gone.md\ndocs/page.md:2: there is no docs/gone.py\n"
    )


def test_names_tests_that_are_gone(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    """By their file, their name, or both; what is in brackets is one of a test's cases."""
    (tmp_path / "a").mkdir()
    (tmp_path / "a/x_test.py").write_text("async def test_one():\n    ...\ndef test_two_of():\n")
    (tmp_path / "page.md").write_text(
        "`a/x_test.py::test_one` `a/x_test.py::test_one[soon]` `a/x_test.py::test_two_of`\n"
        "`a/x_test.py::test_two` `a/gone_test.py::test_one` `a/x_test.py::test_three[a, b]`\n"
    )
    monkeypatch.chdir(tmp_path)
    assert doc_paths.main(["page.md"]) == 1
    assert capsys.readouterr().out.splitlines() == [
        "page.md:2: there is no a/x_test.py::test_two",
        "page.md:2: there is no a/gone_test.py::test_one",
        "page.md:2: there is no a/x_test.py::test_three",
    ]


def test_a_sound_page_is_silent(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """Nothing missing ends well."""
    (tmp_path / "page.md").write_text("Nothing to point to.\n")
    monkeypatch.chdir(tmp_path)
    assert doc_paths.main(["page.md"]) == 0
