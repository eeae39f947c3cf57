"""Absurd input costs the offline model no more than reading it."""

import json
import time
from typing import Any, Final

import pytest

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Citation,
    Message,
    Part,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Prompt
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.provider_offline import OfflineProvider

# A quarter of the longest request: what is linear takes four times as long for that one.
_BYTES: Final = 512 * 1024
# In looks at each character, which cost what they cost at that moment. What is linear, or has
# a bound of its own, takes ten to forty; what is quadratic, thousands.
_MOST_LOOKS: Final = 300

_PIECES: Final = {
    "letters": "a",
    "digits": "1",
    "gaps": " ",
    "lines": "\n",
    "words": "word ",
    "names": "Ada Lovelace, ",
    "numbers": "1, ",
    "sums": "1+",
    "brackets": "(",
    "quotes": "'a",
    "dates": "3 May ",
    "units": "5 km and ",
    "questions": "What is 1+1? ",
    "stories": "Ada had 5 nuts. How many? ",
    "labels": "total: 5\n",
    "label": "total ",
    "pipes": "| a ",
    "dashes": "- ",
    "points": "1. ",
    "mail": "a@a.",
    "commas": ",",
    "delegations": "delegate: a; ",
    "parts": "### Part 1, by a: DONE\nAsked: ",
    "references": "[1] a",
}
_SCHEMA: Final = json.dumps(
    {
        "type": "object",
        "properties": {
            "total": {"type": "number"},
            "due_date": {"type": "string", "format": "date"},
            "mail": {"type": "string", "format": "email"},
            "state": {"type": "string", "enum": ["open", "closed"]},
            "items": {"type": "array", "items": {"type": "string"}},
        },
    }
)


def _tools() -> list[pb.ToolSpec]:
    further = pb.ToolSpec(name="triangle_area", description="The area of a triangle. " * 20)
    properties: Any = {name: {"type": "number"} for name in ("base", "height", "angle")}
    further.parameters.update({"properties": properties, "required": ["base", "height"]})
    return [
        *(pb.ToolSpec(name=name) for name in ("calculator", "search_memory", "ask_person")),
        further,
    ]


def _look_seconds() -> float:
    """What a look at each character of so long a text takes of CPU, at this moment."""
    part = _BYTES // 16
    began = time.process_time()
    assert sum(character.isalnum() for character in "a" * part) == part
    return 16 * (time.process_time() - began)


async def _looks(messages: list[Message], **more: Any) -> float:
    provider = OfflineProvider(Planner(TimeQuestions(lambda: ["UTC"])))
    before = _look_seconds()
    began = time.process_time()
    await provider.complete(Prompt(messages, _tools(), **more))
    seconds = time.process_time() - began
    return seconds / max(before, _look_seconds())


@pytest.mark.parametrize("piece", _PIECES)
@pytest.mark.parametrize("before", ["", "What is the area of the triangle "])
async def test_a_long_request_is_read_in_linear_time(piece: str, before: str) -> None:
    """Whatever it repeats, with a schema and with tools of one's own."""
    text = before + _PIECES[piece] * (_BYTES // len(_PIECES[piece]))
    messages = [Message(role=ROLE_USER, parts=[Part(text=text)])]
    assert await _looks(messages, output_schema=_SCHEMA) < _MOST_LOOKS


@pytest.mark.parametrize("piece", _PIECES)
async def test_a_long_result_is_read_in_linear_time(piece: str) -> None:
    """A passage as long as all else."""
    text = _PIECES[piece] * (_BYTES // len(_PIECES[piece]))
    cited = Citation(uri="a", start_line=1, end_line=2, snippet="a")
    result = ToolResult(call_id="call-1", tool="search_memory", text=text, citations=[cited])
    messages = [
        Message(role=ROLE_USER, parts=[Part(text="Who is the author of the book that says it?")]),
        Message(role=ROLE_TOOL, tool_result=result),
    ]
    assert await _looks(messages) < _MOST_LOOKS


@pytest.mark.parametrize(
    "phase",
    [
        "[plan] Make a plan for the request above. Do not carry it out yet.",
        "[critique] Judge your answer above as a strict reader would.",
        "[revision] Write the answer anew, with these problems solved.",
        "[delegation] Split the request above into parts for workers.",
        "[review] Judge what the workers returned.",
    ],
)
@pytest.mark.parametrize("piece", ["letters", "lines", "parts", "numbers", "questions", "dashes"])
async def test_a_long_instruction_is_read_in_linear_time(phase: str, piece: str) -> None:
    """Each phase, with a draft and a conversation that are as long."""
    text = _PIECES[piece] * (_BYTES // 2 // len(_PIECES[piece]))
    messages = [
        Message(role=ROLE_SYSTEM, parts=[Part(text=text)]),
        Message(role=ROLE_USER, parts=[Part(text=f"What is it? {text}")]),
        Message(role=ROLE_ASSISTANT, parts=[Part(text=f"“{text} 4711.”")]),
        Message(role=ROLE_USER, parts=[Part(text=f"{phase}\n{text}")]),
    ]
    assert await _looks(messages) < _MOST_LOOKS
