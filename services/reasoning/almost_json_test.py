"""What models write for JSON."""

import json
import re
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from services.reasoning.almost_json import NotJson, read_object


def _objects(texts: st.SearchStrategy[str]) -> st.SearchStrategy[dict[str, Any]]:
    numbers = st.integers() | st.floats(allow_nan=False, allow_infinity=False)
    values = st.recursive(
        st.none() | st.booleans() | numbers | texts,
        lambda inner: st.lists(inner, max_size=3) | st.dictionaries(texts, inner, max_size=3),
        max_leaves=8,
    )
    return st.dictionaries(texts, values, max_size=4)


_OBJECTS = _objects(st.text(max_size=6))
# Python escapes other characters in a way of its own.
_PRINTABLE = _objects(st.text(st.characters().filter(str.isprintable), max_size=6))
_PROSE = st.text("abc .,:;!?\n'\"[]`}", max_size=20)
_PATIENT = settings(deadline=None)


@_PATIENT
@given(_OBJECTS, st.sampled_from([None, 2]), st.booleans())
def test_json_is_read_as_it_stands(value: dict[str, Any], indent: int | None, ascii_: bool) -> None:
    """Nothing is repaired that is whole."""
    assert read_object(json.dumps(value, indent=indent, ensure_ascii=ascii_)) == value


@_PATIENT
@given(_OBJECTS, _PROSE, _PROSE)
def test_text_around_is_left_out(value: dict[str, Any], before: str, after: str) -> None:
    """Also where it holds quotes and brackets of its own."""
    assert read_object(f"{before}{json.dumps(value, ensure_ascii=False)}{after}") == value


@_PATIENT
@given(_OBJECTS, st.sampled_from(["json", "JSON", ""]))
def test_code_fences_are_left_out(value: dict[str, Any], language: str) -> None:
    """With a word of prose before them."""
    assert read_object(f"Here it is:\n```{language}\n{json.dumps(value)}\n```\nDone.") == value


@_PATIENT
@given(_PRINTABLE)
def test_pythons_spelling_is_read(value: dict[str, Any]) -> None:
    """Single quotes, True and None."""
    assert read_object(repr(value)) == value


@_PATIENT
@given(_OBJECTS)
def test_commas_before_a_closing_bracket_are_left_out(value: dict[str, Any]) -> None:
    """In objects and in lists."""
    # Over lines, so that no text is taken for a bracket.
    text = re.sub(r"([^\[{,\s])(\n *[\]}])", r"\1,\2", json.dumps(value, indent=1))
    assert read_object(text) == value


@_PATIENT
@given(_OBJECTS, st.data())
def test_an_end_is_never_made_up(value: dict[str, Any], data: st.DataObject) -> None:
    """No part of an object that lacks its end is read as one."""
    text = json.dumps(value)
    cut = text[: data.draw(st.integers(0, len(text) - 1))]
    with pytest.raises(NotJson):
        read_object(cut)


@_PATIENT
@given(st.text("{}[]\"'\\,:truefalsnN0123.eE- \n\t`u", max_size=40))
def test_any_text_is_read_as_json_or_refused(text: str) -> None:
    """It fails in no other way, and what is read can be written as JSON."""
    try:
        value = read_object(text)
    except NotJson:
        return
    assert json.loads(json.dumps(value, allow_nan=False)) == value


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ("", "holds no JSON object"),
        ("I cannot answer that.", "holds no JSON object"),
        ("[1, 2]", "holds no JSON object"),
        ("NaN", "holds no JSON object"),
        ('{"a": NaN}', "holds no JSON object"),
        ('{"a": "b', "ends before its JSON object does"),
        ('```json\n{"a": [1, 2\n', "ends before its JSON object does"),
        ('{"a": 1} or rather {"a": 2}', "holds more than one JSON object"),
        ("{'a': 'it's'}", "holds no JSON object"),
        ('{"a" 1}', "holds no JSON object"),
        ('{"a": 1 "b": 2}', "holds no JSON object"),
        ("{a: 1}", "holds no JSON object"),
        ('{"a":' * 25 + "1" + "}" * 25 + ".", "is nested more than 24 deep"),
        (" " * (1024 * 1024 + 1), "has more than 1048576 characters"),
    ],
)
def test_what_cannot_be_read_is_refused_with_why(text: str, why: str) -> None:
    """In words that the model is told."""
    with pytest.raises(NotJson) as caught:
        read_object(text)
    assert str(caught.value) == why


def test_the_same_object_twice_is_one() -> None:
    """Models like to repeat themselves."""
    assert read_object('{"a": 1}\nThat is: {"a": 1}') == {"a": 1}


def test_braces_in_prose_are_passed_over() -> None:
    """They hold no object."""
    assert read_object("With {name} filled in: {'name': 'it\\'s',}") == {"name": "it's"}


def test_a_line_feed_within_a_text_is_part_of_it() -> None:
    """JSON would have it escaped."""
    assert read_object('{"a": "b\nc"}') == {"a": "b\nc"}
