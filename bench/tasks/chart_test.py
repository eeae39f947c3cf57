"""Charts show what happened, in little room."""

from xml.etree import ElementTree

from hypothesis import given, settings
from hypothesis import strategies as st

from bench.tasks.chart import blocks, svg
from bench.tasks.load import Second


def test_the_largest_value_is_a_full_block_and_zero_the_lowest() -> None:
    """And what lies between is in proportion."""
    assert blocks([0, 4, 8], 10) == "▁▅█"
    assert blocks([0, 0], 10) == "▁▁"
    assert blocks([], 10) == ""


@settings(deadline=None)
@given(st.lists(st.floats(0, 1e9), min_size=1, max_size=300), st.integers(0, 100))
def test_too_many_values_share_blocks_and_no_peak_is_lost(values: list[float], width: int) -> None:
    """The line is as wide as there is room for, and shows the largest value in full."""
    line = blocks(values, width)
    assert len(line) == min(len(values), max(width, 1))
    assert ("█" in line) == (max(values) > 0)


def test_a_drawing_has_a_line_for_each_series() -> None:
    """Throughput, p50 and p99, with a point for each second; the title is escaped."""
    drawing = ElementTree.fromstring(svg("a < b", [Second(1, 2, 3.0, 4.0), Second(1, 1, 1.0, 8.0)]))
    name = "{http://www.w3.org/2000/svg}"
    assert drawing.findall(f"{name}text")[0].text == "a < b"
    lines = drawing.findall(f"{name}polyline")
    assert [len(line.attrib["points"].split()) for line in lines] == [2, 2, 2]


def test_a_drawing_of_nothing_can_be_made() -> None:
    """A run that was over before its first second."""
    assert ElementTree.fromstring(svg("nothing", [])).tag.endswith("svg")
