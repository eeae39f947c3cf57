"""Tool calls as models say them."""

import json
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1.conversation_pb2 import ROLE_ASSISTANT, Message, ToolCall
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.json_struct import to_mapping
from services.reasoning.generation import Prompt
from services.reasoning.tool_call_arguments import SaidCall, UnfitCalls, tool_calls

_PROMPT = Prompt((), [pb.ToolSpec(name="add"), pb.ToolSpec(name="time")])


def _read(text: str) -> dict[str, Any]:
    (call,) = tool_calls([SaidCall("a", "add", text)], _PROMPT)
    return to_mapping(call.arguments)


_OBJECTS = st.dictionaries(
    st.text(max_size=5), st.integers(-99, 99) | st.text(max_size=5) | st.none(), max_size=3
)


@settings(deadline=None)
@given(_OBJECTS, st.sampled_from([json.dumps, lambda value: json.dumps(json.dumps(value))]))  # pyright: ignore[reportUnknownLambdaType, reportUnknownArgumentType]
def test_arguments_are_read_as_they_were_meant(value: dict[str, Any], written: Any) -> None:
    """As JSON, also where that was made JSON twice."""
    assert _read(written(value)) == value


@pytest.mark.parametrize(
    ("text", "arguments"),
    [
        ("", {}),
        (" \n", {}),
        ("{'a': 1,}", {"a": 1}),
        ('```json\n{"a": 1}\n```', {"a": 1}),
        ('{"a": True}', {"a": True}),
    ],
)
def test_arguments_that_are_almost_json_are_repaired(text: str, arguments: dict[str, Any]) -> None:
    """And none at all are no arguments."""
    assert _read(text) == arguments


@pytest.mark.parametrize(
    ("text", "why"),
    [
        ('{"a": 1', "ends before its JSON object does"),
        ("a=1", "holds no JSON object"),
        ("[1]", "holds no JSON object"),
        ('"1"', "holds no JSON object"),
        ('"{"', "ends before its JSON object does"),
        ('{"a": "\\ud800"}', "holds half of a surrogate pair, which is no text"),
        ('{"a": 1e999}', "holds no JSON object"),
    ],
)
def test_other_arguments_are_refused(text: str, why: str) -> None:
    """The other calls beside are not made either."""
    said = [SaidCall("a", "add", "{}"), SaidCall("b", "add", text)]
    with pytest.raises(UnfitCalls) as caught:
        tool_calls(said, _PROMPT)
    assert str(caught.value) == f"wants a tool called with arguments whose text {why}"


def test_a_tool_that_was_not_offered_is_refused() -> None:
    """Without its name, which the model made up."""
    with pytest.raises(UnfitCalls) as caught:
        tool_calls([SaidCall("a", "delete_all", "{}")], _PROMPT)
    assert str(caught.value) == "wants a tool called that it was not offered"


def test_several_calls_keep_their_order_and_have_ids_of_their_own() -> None:
    """Whatever ids the model gives: none, one twice, one of an earlier turn."""
    earlier = Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(call_id="a", tool="add")])
    said = [
        SaidCall("a", "add", '{"n": 1}'),
        SaidCall("", "time", ""),
        SaidCall("b", "add", '{"n": 2}'),
        SaidCall("b", "add", '{"n": 3}'),
        SaidCall("", "time", ""),
    ]
    calls = tool_calls(said, Prompt([earlier], _PROMPT.tools))
    assert [(each.call_id, each.tool, to_mapping(each.arguments)) for each in calls] == [
        ("a-2", "add", {"n": 1}),
        ("call-1", "time", {}),
        ("b", "add", {"n": 2}),
        ("b-2", "add", {"n": 3}),
        ("call-2", "time", {}),
    ]


def test_the_call_in_which_an_answer_was_cut_off_is_left_out() -> None:
    """The calls before it are whole."""
    said = [SaidCall("a", "add", '{"n": 1}'), SaidCall("b", "add", '{"n": ')]
    assert [each.call_id for each in tool_calls(said, _PROMPT, cut=True)] == ["a"]
    with pytest.raises(UnfitCalls):
        tool_calls(list(reversed(said)), _PROMPT, cut=True)


def test_too_many_calls_at_once_are_refused() -> None:
    """A model that repeats itself without end."""
    with pytest.raises(UnfitCalls) as caught:
        tool_calls([SaidCall("", "time", "")] * 129, _PROMPT)
    assert str(caught.value) == "wants more than 128 tools called at once"
