"""Tools are called by name, with arguments read from the sentence."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.tool_arguments import Argument, ToolRequest, find_tool_request


def _tool(name: str, required: list[str], **properties: Mapping[str, Any]) -> pb.ToolSpec:
    tool = pb.ToolSpec(name=name)
    tool.parameters.update({"type": "object", "properties": properties, "required": required})
    return tool


_TOOLS = [
    _tool("get_weather", ["city"], city={"type": "string"}, days={"type": "integer"}),
    _tool("lookup_order", ["order_id"], order_id={"type": "string"}),
    _tool(
        "set_level",
        ["level", "ratio"],
        level={"type": "string", "enum": ["low", "high"]},
        ratio={"type": "number"},
        dry_run={"type": "boolean"},
    ),
    pb.ToolSpec(name="ping"),
]


@pytest.mark.parametrize(
    ("clause", "tool", "arguments", "missing"),
    [
        ("What is the weather in Berlin?", "get_weather", {"city": "Berlin"}, ()),
        (
            "call get_weather with city=Paris, days=3",
            "get_weather",
            {"city": "Paris", "days": 3},
            (),
        ),
        ('use get_weather {"city": "New York"}', "get_weather", {"city": "New York"}, ()),
        ('use get_weather for "San Jose"', "get_weather", {"city": "San Jose"}, ()),
        ("what is the weather like?", "get_weather", {}, ("city",)),
        ("Where is order A-1234?", "lookup_order", {"order_id": "A-1234"}, ()),
        (
            "call set_level high with ratio 0.5, dry_run: yes",
            "set_level",
            {"level": "high", "ratio": 0.5, "dry_run": True},
            (),
        ),
        ("run ping", "ping", {}, ()),
    ],
)
def test_a_tool_gets_the_arguments_that_the_sentence_gives(
    clause: str, tool: str, arguments: dict[str, Argument], missing: tuple[str, ...]
) -> None:
    """By name, by JSON, in quotes, by choice, by type; what is required and absent is told."""
    assert find_tool_request(clause, _TOOLS) == ToolRequest(tool, arguments, missing)


@pytest.mark.parametrize("clause", ["What is our refund policy?", "shopping in Berlin?", ""])
def test_a_sentence_that_names_no_tool_calls_none(clause: str) -> None:
    """A part of a word is no name."""
    assert find_tool_request(clause, _TOOLS) is None


@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    """Arguments are always among those of the tool."""
    found = find_tool_request(f"set_level {text}", _TOOLS)
    assert found is not None
    assert set(found.arguments) <= {"level", "ratio", "dry_run", "city", "days", "order_id"}
