"""Tools are called by name, with arguments read from the sentence."""

from collections.abc import Mapping
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.tool_arguments import Argument, ToolRequest
from services.reasoning.offline.tool_requests import find_tool_request, find_tool_requests


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


_FURTHER = [
    _tool(
        "triangle_area",
        ["base", "height"],
        base={"type": "number"},
        height={"type": "number"},
        unit={"type": "string", "enum": ["cm", "m"]},
    ),
    _tool("factorial", ["number"], number={"type": "integer"}),
    _tool(
        "travel_time",
        ["origin", "destination"],
        origin={"type": "string"},
        destination={"type": "string"},
        date={"type": "string", "description": "YYYY-MM-DD"},
        avoid_tolls={"type": "boolean"},
    ),
    _tool("mean_of_values", ["values"], values={"type": "array", "items": {"type": "number"}}),
    _tool("discount_rate", ["rate"], rate={"type": "number"}),
]


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        (
            "What is the area of a triangle with a height of 5 cm and a base of 10 cm?",
            [("triangle_area", {"base": 10.0, "height": 5.0, "unit": "cm"})],
        ),
        (
            "Calculate the factorial of 5, 7 and 9.",
            [("factorial", {"number": each}) for each in (5, 7, 9)],
        ),
        (
            "What is the travel time from New York City to Boston on 3 May 2026, avoiding tolls?",
            [
                (
                    "travel_time",
                    {
                        "origin": "New York City",
                        "destination": "Boston",
                        "date": "2026-05-03",
                        "avoid_tolls": True,
                    },
                )
            ],
        ),
        ("Find the mean of the values 2, 4 and 9.", [("mean_of_values", {"values": [2, 4, 9]})]),
        ("Set the discount rate to 5%.", [("discount_rate", {"rate": 0.05})]),
        (
            "Calculate the factorial of 5. Then find the mean of the values 1 and 2.",
            [("factorial", {"number": 5}), ("mean_of_values", {"values": [1, 2]})],
        ),
        ("What is the area of a triangle with a base of 10 and a height of 5 for 12 people?", []),
        ("What is the travel time from Boston to Paris and from Rome to Bonn?", []),
    ],
)
def test_arguments_go_to_the_names_beside_them(
    text: str, calls: list[tuple[str, Mapping[str, Argument]]]
) -> None:
    """A list makes several calls; where a number or a name is left over, none is made."""
    found = find_tool_requests(text, _FURTHER)
    assert [(each.tool, each.arguments) for each in found if not each.missing] == calls


def test_numbers_without_names_are_taken_in_the_order_of_what_is_required() -> None:
    """Properties have no order, the names that are required have one."""
    names = ["zeta", "alpha", "mu", "beta", "omega"]
    tool = _tool("weigh_stones", names, **{name: {"type": "number"} for name in sorted(names)})
    (found,) = find_tool_requests("Weigh the stones: 1, 2, 3, 4 and 5.", [tool])
    assert list(found.arguments.items()) == list(zip(names, [1, 2, 3, 4, 5], strict=True))


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_for_many_tools_is_survived(text: str) -> None:
    """Arguments have the types that the tool wants."""
    for each in find_tool_requests(f"triangle area factorial {text} mean of values", _FURTHER):
        assert isinstance(each.arguments.get("number", 0), int)
        assert isinstance(each.arguments.get("base", 0.0), float)


@settings(deadline=None)
@given(st.text(max_size=200))
def test_any_text_is_survived(text: str) -> None:
    """Arguments are always among those of the tool."""
    found = find_tool_request(f"set_level {text}", _TOOLS)
    assert found is not None
    assert set(found.arguments) <= {"level", "ratio", "dry_run", "city", "days", "order_id"}
