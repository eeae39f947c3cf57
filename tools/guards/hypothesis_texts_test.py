"""What the runner of tests tells hypothesis of texts is true, and is heard."""

import sys
from pathlib import Path

import pytest
from hypothesis import configuration
from hypothesis.internal import charmap

from tools.pytest.runner import Characters


@pytest.fixture(name="ranges", scope="module")
def _ranges(tmp_path_factory: pytest.TempPathFactory) -> tuple[tuple[int, int], ...]:
    """What hypothesis believes UTF-8 to have, the first and the last of each range."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(configuration, "__hypothesis_home_directory", None)
        Characters(Path(tmp_path_factory.mktemp("hypothesis"))).pytest_collection_finish()
        # If it tried them itself, it would find one.
        patch.setattr(sys, "maxunicode", 0)
        charmap.intervals_from_codec.cache_clear()
        encodable, changed = charmap.intervals_from_codec("utf-8")
    assert changed.intervals == ()
    return encodable.intervals


def test_hypothesis_believes_the_runner(ranges: tuple[tuple[int, int], ...]) -> None:
    """It tries no character itself: a million take it seconds, in each test anew."""
    assert ranges == ((0, 0xD7FF), (0xE000, sys.maxunicode))


def test_utf_8_has_every_character_but_surrogates(ranges: tuple[tuple[int, int], ...]) -> None:
    """Those of the ranges survive it, and those between them have no form in it."""
    text = "".join(chr(number) for first, last in ranges for number in range(first, last + 1))
    assert text.encode().decode() == text
    (_, before), (after, _) = ranges
    for number in range(before + 1, after):
        with pytest.raises(UnicodeEncodeError):
            chr(number).encode()
