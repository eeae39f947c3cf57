"""Names of tools, there and back."""

import re

from hypothesis import given
from hypothesis import strategies as st

from services.reasoning.tool_names import ToolNames


def test_a_name_that_is_taken_stays() -> None:
    """Models are told what people wrote wherever that can be."""
    names = ToolNames(["search_memory", "get-time"])
    assert [names.sent(each) for each in ("search_memory", "get-time")] == [
        "search_memory",
        "get-time",
    ]


def test_names_that_look_alike_stay_apart() -> None:
    """What stays as it is wins; the others are numbered."""
    names = ToolNames(["files.read", "files/read", "files_read"])
    assert [names.sent(each) for each in ("files_read", "files.read", "files/read")] == [
        "files_read",
        "files_read_2",
        "files_read_3",
    ]
    assert names.meant("files_read_3") == "files/read"


def test_a_tool_of_earlier_turns_has_a_name_too() -> None:
    """A conversation may hold calls of tools that are no longer offered."""
    names = ToolNames([])
    assert names.sent("old.tool") == "old_tool"
    assert names.meant("never_seen") == "never_seen"


@given(names=st.lists(st.text(min_size=1, max_size=100), unique=True, max_size=30))
def test_every_name_comes_back(names: list[str]) -> None:
    """Whatever the names are, what is sent is taken, and means the same tool."""
    translated = ToolNames(names)
    sent = [translated.sent(each) for each in names]
    assert [translated.meant(each) for each in sent] == names
    assert all(re.fullmatch(r"[A-Za-z0-9_-]{1,64}", each) for each in sent)
