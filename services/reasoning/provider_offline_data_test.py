"""The offline model answers in the shape of a schema, with what it was told and nothing else."""

import json
from typing import Any

import pytest

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_TOOL,
    ROLE_USER,
    Citation,
    Message,
    Part,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.offline.plan import Planner
from services.reasoning.offline.times import TimeQuestions
from services.reasoning.provider_offline import OfflineProvider

_INVOICE = """Take the data out of this invoice.

Invoice number: A-2041
Due date: 3 May 2026
Customer e-mail: ada@example.org
Total: $1,250.50
Paid: no
Tags: urgent, refund
The shipping weight is 12 kg. Its priority is high.
"""


def _object(**properties: Any) -> str:
    return json.dumps({"type": "object", "properties": properties, "required": list(properties)})


async def _complete(schema: str, *messages: Message) -> Completion:
    provider = OfflineProvider(Planner(TimeQuestions(lambda: ["UTC"])))
    tools = [pb.ToolSpec(name="search_memory"), pb.ToolSpec(name="calculator")]
    return await provider.complete(Prompt(messages, tools, output_schema=schema))


def _user(text: str) -> Message:
    return Message(role=ROLE_USER, parts=[Part(text=text)])


async def _filled(text: str, **properties: Any) -> Any:
    completion = await _complete(_object(**properties), _user(text))
    assert completion.stop_reason is StopReason.END, completion.message
    return json.loads(completion.message.parts[0].text)


@pytest.mark.parametrize(
    ("name", "schema", "value"),
    [
        ("invoice_number", {"type": "string"}, "A-2041"),
        ("invoiceNumber", {"type": "string"}, "A-2041"),
        ("due_date", {"type": "string", "format": "date"}, "2026-05-03"),
        ("due_date", {"type": "string"}, "3 May 2026"),
        ("email", {"type": "string", "format": "email"}, "ada@example.org"),
        ("total", {"type": "number"}, 1250.5),
        ("amount", {"type": "number", "title": "Total"}, 1250.5),
        ("paid", {"type": "boolean"}, False),
        ("tags", {"type": "array", "items": {"type": "string"}}, ["urgent", "refund"]),
        ("shipping_weight", {"type": "integer"}, 12),
        ("priority", {"type": "string", "enum": ["low", "high"]}, "high"),
        ("supplier", {"type": ["string", "null"]}, None),
        ("vat", {"anyOf": [{"type": "number"}, {"type": "null"}]}, None),
    ],
)
async def test_a_field_is_found_by_name_type_and_format(name: str, schema: Any, value: Any) -> None:
    """What the text says stands in it as the type wants; what it does not say is null."""
    assert await _filled(_INVOICE, **{name: schema}) == {name: value}


async def test_what_must_be_there_and_is_not_said_is_refused() -> None:
    """The fields are named, and nothing is made up."""
    schema = _object(total={"type": "number"}, iban={"type": "string"}, vat={"type": "number"})
    completion = await _complete(schema, _user(_INVOICE))
    assert completion.stop_reason is StopReason.REFUSED
    assert completion.message.parts[0].text == "Nothing that I was given says: iban, vat."


async def test_what_need_not_be_there_is_left_out() -> None:
    """A field that is not required is no reason to refuse."""
    schema: Any = {"type": "object", "properties": {"iban": {"type": "string"}}, "required": []}
    completion = await _complete(json.dumps(schema), _user(_INVOICE))
    assert completion.stop_reason is StopReason.END
    assert completion.message.parts[0].text == "{}"


async def test_two_choices_that_are_both_said_are_none() -> None:
    """Which of them is meant is not known."""
    schema = {"type": ["string", "null"], "enum": ["red", "green", None]}
    assert await _filled("It is red or green.", colour=schema) == {"colour": None}


async def test_objects_in_objects_are_filled() -> None:
    """References within the schema are followed."""
    schema = {
        "type": "object",
        "properties": {"invoice": {"$ref": "#/$defs/invoice"}},
        "required": ["invoice"],
        "$defs": {"invoice": json.loads(_object(total={"type": "number"}))},
    }
    completion = await _complete(json.dumps(schema), _user(_INVOICE))
    assert json.loads(completion.message.parts[0].text) == {"invoice": {"total": 1250.5}}


async def test_the_answer_in_words_and_its_sources_have_their_fields() -> None:
    """They are those of an answer without a schema."""
    cited = Citation(uri="lanes.md", start_line=1, end_line=1, snippet="Queues are per lane.")
    schema = _object(
        answer={"type": "string"}, sources={"type": "array", "items": {"type": "string"}}
    )
    question = _user("What are queues for?")
    called = await _complete(schema, question)
    assert [call.tool for call in called.message.tool_calls] == ["search_memory"]
    result = ToolResult(call_id="call-1", tool="search_memory", text="…", citations=[cited])
    completion = await _complete(
        schema, question, called.message, Message(role=ROLE_TOOL, tool_result=result)
    )
    assert json.loads(completion.message.parts[0].text) == {
        "answer": "From lanes.md (line 1): “Queues are per lane.” [1].",
        "sources": ["lanes.md"],
    }
    assert [each.uri for each in completion.citations] == ["lanes.md"]


@pytest.mark.parametrize(
    ("text", "name", "result", "value"),
    [
        ("What is the sum of 3 and 4?", "sum", "7", 7),
        ("What is the product of 2.5 and 4?", "product", "10", 10),
        ("What is the sum of 1000 and 2000?", "sum", "3,000", 3000),
    ],
)
async def test_a_field_takes_what_was_calculated_for_it(
    text: str, name: str, result: str, value: float
) -> None:
    """And none of the numbers that it was calculated from."""
    schema, question = _object(**{name: {"type": "number"}}), _user(text)
    called = await _complete(schema, question)
    assert [call.tool for call in called.message.tool_calls] == ["calculator"]
    said = ToolResult(call_id=called.message.tool_calls[0].call_id, tool="calculator", text=result)
    completion = await _complete(
        schema, question, called.message, Message(role=ROLE_TOOL, tool_result=said)
    )
    assert json.loads(completion.message.parts[0].text) == {name: value}


async def test_an_answer_that_did_not_fit_is_not_given_twice() -> None:
    """Asked again, it refuses and says what was wrong."""
    again = _user("That is not what was asked for: total must be under 5. Answer again.")
    completion = await _complete(_object(total={"type": "number"}), _user(_INVOICE), again)
    assert completion.stop_reason is StopReason.REFUSED
    assert completion.message.parts[0].text == (
        "I can give no answer of this shape: total must be under 5. Answer again."
    )


@pytest.mark.parametrize("schema", ["{", "[]", '{"$ref": "#"}', '{"type": "object", "$ref": 1}'])
async def test_schemas_that_make_no_sense_are_survived(schema: str) -> None:
    """The answer is a refusal, or as good as nothing."""
    completion = await _complete(schema, _user(_INVOICE))
    assert completion.stop_reason in (StopReason.REFUSED, StopReason.END)
