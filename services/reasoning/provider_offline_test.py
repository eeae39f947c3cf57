"""The offline model plans by rules and answers only with what it was given."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    Citation,
    Message,
    ToolCall,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.offline.answer import INTRODUCTION, NOT_FOUND
from services.reasoning.offline_calls import (
    TOOLS,
    answer_from,
    complete,
    offline_provider,
    planned_calls,
    tool_result,
)
from services.reasoning.prompts import said, text_of
from services.reasoning.provider_offline import OFFLINE

_QUESTION = "What is 17.5% of 2,480, and which of our runbooks mentions rate limits?"
_GATEWAY = Citation(
    document="tenants/acme/documents/gateway",
    title="Gateway",
    uri="docs/runbooks/gateway.md",
    start_line=10,
    end_line=13,
    snippet=(
        "## Overload\n\nThe gateway answers 429 when a tenant passes its rate\nlimits."
        " Raise them in `mesh/envoy`."
    ),
    score=0.7,
)
_OVERVIEW = Citation(
    document="tenants/acme/documents/overview",
    title="Overview",
    uri="docs/overview.md",
    start_line=3,
    end_line=9,
    snippet="Rate limits are per tenant. Queues are per lane.",
    score=0.8,
)


async def test_a_request_for_two_things_calls_two_tools_at_once() -> None:
    """The calculation is written for the calculator, the question for the search."""
    completion = await complete([said(_QUESTION)])
    assert completion.stop_reason is StopReason.TOOL_CALLS
    assert completion.message.role == ROLE_ASSISTANT
    assert text_of(completion) == ""
    assert await planned_calls(_QUESTION) == [
        {"id": "call-1", "tool": "calculator", "expression": "0.175 * 2480"},
        {"id": "call-2", "tool": "search_memory", "query": "rate limits runbooks", "limit": 8.0},
    ]


async def test_the_answer_says_both_with_the_place_of_what_it_quotes() -> None:
    """The document of the wanted kind is named with its lines, and cited."""
    completion = await answer_from(
        _QUESTION,
        tool_result("call-1", "calculator", "434"),
        tool_result("call-2", "search_memory", "…", _OVERVIEW, _GATEWAY),
    )
    assert completion.stop_reason is StopReason.END
    assert text_of(completion) == (
        "17.5% of 2,480 is 434. Rate limits are mentioned in docs/runbooks/gateway.md"
        " (lines 12-13): “The gateway answers 429 when a tenant passes its rate limits.” [1]."
    )
    cited = Citation()
    cited.CopyFrom(_GATEWAY)
    cited.start_line, cited.end_line = 12, 13
    cited.snippet = "The gateway answers 429 when a tenant passes its rate limits."
    assert list(completion.citations) == [cited]


async def test_every_document_that_mentions_it_is_named_where_none_is_of_the_kind() -> None:
    """A kind of document that no path or title has excludes nothing."""
    completion = await answer_from(
        "Which of our playbooks mentions rate limits?",
        tool_result("call-1", "search_memory", "…", _OVERVIEW, _GATEWAY),
    )
    assert text_of(completion) == (
        "Rate limits are mentioned in docs/overview.md (lines 3-9): “Rate limits are per tenant.”"
        " [1]; and docs/runbooks/gateway.md (lines 12-13): “The gateway answers 429 when a tenant"
        " passes its rate limits.” [2]."
    )


async def test_a_mention_in_the_very_words_is_quoted_before_others() -> None:
    """A constant that falls into the same words comes second."""
    passage = Citation(
        uri="a.md", start_line=1, end_line=2, score=0.9,
        snippet="RATE_LIMITED is a rate limit code.\nThis page explains our rate limits.",
    )  # fmt: skip
    completion = await answer_from(
        "Which page mentions rate limits?", tool_result("call-1", "search_memory", "…", passage)
    )
    assert text_of(completion) == (
        "Rate limits are mentioned in a.md (line 2): “This page explains our rate limits.” [1]."
    )


async def test_a_question_is_answered_by_the_sentence_that_fits_best() -> None:
    """The sentence is quoted with its source, not the passage around it."""
    completion = await answer_from(
        "What are queues for?",
        tool_result("call-1", "search_memory", "…", _GATEWAY, _OVERVIEW),
    )
    assert text_of(completion) == ("From docs/overview.md (lines 3-9): “Queues are per lane.” [1].")


async def test_a_list_is_quoted_with_the_sentence_that_announces_it() -> None:
    """What a sentence announces is the answer."""
    passage = Citation(
        uri="docs/lanes.md", start_line=1, end_line=4,
        snippet="The lanes are:\n\n- interactive\n- batch", score=0.9,
    )  # fmt: skip
    completion = await answer_from(
        "What are the lanes?", tool_result("call-1", "search_memory", "…", passage)
    )
    assert text_of(completion) == (
        "From docs/lanes.md (lines 1-4): “The lanes are: interactive; batch” [1]."
    )


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("Who won the football match yesterday?", NOT_FOUND),
        ("Which of our runbooks mentions zeppelins?", NOT_FOUND),
        (
            "What is 2+2, and who won the football match?",
            "2+2 is 4. I did not find this in the documents: who won the football match.",
        ),
    ],
)
async def test_what_no_passage_says_is_not_answered(question: str, text: str) -> None:
    """Passages that miss the question's words are no answer, however high their score."""
    results = [tool_result("call-1", "calculator", "4")] if "2+2" in question else []
    number = len(results) + 1
    completion = await answer_from(
        question,
        *results,
        tool_result(f"call-{number}", "search_memory", "…", _OVERVIEW, _GATEWAY),
    )
    assert text_of(completion) == text
    assert list(completion.citations) == []


@pytest.mark.parametrize(
    ("question", "result", "text"),
    [
        ("What time is it in Berlin?", "12:30", "In Berlin it is 12:30."),
        (
            "What time is it in Gondor?",
            "12:30",
            "I do not know the time zone of Gondor. It is 12:30.",
        ),
        ("What's the date?", "2026-01-01", "It is 2026-01-01."),
    ],
)
async def test_the_time_is_told_for_the_place(question: str, result: str, text: str) -> None:
    """A place without a known zone is said to be unknown."""
    completion = await answer_from(question, tool_result("call-1", "current_time", result))
    assert text_of(completion) == text


async def test_a_clock_is_asked_for_the_zone_of_the_place() -> None:
    """The zone's IANA name goes to the tool."""
    assert await planned_calls("What time is it in Berlin?") == [
        {"id": "call-1", "tool": "current_time", "time_zone": "Europe/Berlin"}
    ]


@pytest.mark.parametrize(
    ("question", "text"),
    [
        ("What is the square root of 16?", "The square root of 16 is 4."),
        ("subtract 4 from 8", "Subtract 4 from 8: 4."),
        ("half of 8", "Half of 8 is 4."),
    ],
)
async def test_a_result_is_said_in_a_sentence(question: str, text: str) -> None:
    """The calculation is repeated as it was asked; tools may write whole equations."""
    completion = await answer_from(question, tool_result("call-1", "calculator", "sqrt(16) = 4"))
    assert text_of(completion) == text


@pytest.mark.parametrize("text", ["12. 5 + 1", "What is 12. 5 + 1?", "0x10 + 1", "* 5 + 3"])
async def test_what_can_be_read_in_two_ways_is_not_calculated(text: str) -> None:
    """A point with a gap, another base, or a mark that may be a sign: no number is given."""
    assert all(call["tool"] != "calculator" for call in await planned_calls(text))


async def test_a_minus_before_all_is_no_mark_of_a_list() -> None:
    """One line alone is no list."""
    assert await planned_calls("- 5 + 3") == [
        {"id": "call-1", "tool": "calculator", "expression": "-5 + 3"}
    ]


async def test_a_result_that_was_cut_off_is_said_to_be_about_right() -> None:
    """The calculator tells whether its digits are all there are."""
    completion = await answer_from(
        "What is 1/3?", tool_result("call-1", "calculator", "0.333", data={"exact": False})
    )
    assert text_of(completion) == "1/3 is about 0.333."


async def test_the_time_is_said_as_people_say_it() -> None:
    """Weekday, date, hour and zone, where the clock tells them."""
    time = "2026-01-01T12:30:05+01:00"
    data = {"time": time, "weekday": "Thursday", "time_zone": "Europe/Berlin"}
    completion = await answer_from(
        "What time is it in Berlin?", tool_result("call-1", "current_time", time, data=data)
    )
    assert text_of(completion) == ("In Berlin it is Thursday, 2026-01-01, 12:30 (Europe/Berlin).")


async def test_passages_are_quoted_from_the_text_where_their_snippets_are_shortened() -> None:
    """The search's text holds the passages in full, each below its number and its source."""
    first = Citation(uri="a.md", start_line=4, end_line=6, snippet="Cats sleep.", score=0.9)
    second = Citation(uri="b.md", start_line=1, end_line=1, snippet="Cows eat.", score=0.8)
    text = (
        "[1] a.md, lines 4-6 (Animals > Cats)\nCats sleep.\n\nThey hunt mice.\n\n"
        "[2] b.md, line 1\nCows eat. They give milk."
    )
    result = tool_result("call-1", "search_memory", text, first, second)
    completion = await answer_from("Which animals hunt mice?", result)
    assert text_of(completion) == "From a.md (line 6): “They hunt mice.” [1]."
    completion = await answer_from("Which of them give milk?", result)
    assert text_of(completion) == "From b.md (line 1): “They give milk.” [1]."


async def test_failed_tools_are_reported_with_their_reason() -> None:
    """No result is invented for a tool that failed."""
    completion = await answer_from(
        "What is 1/0, and what is our refund policy?",
        tool_result("call-1", "calculator", "Division by zero", is_error=True),
        tool_result("call-2", "search_memory", "memory is down.", is_error=True),
    )
    assert text_of(completion) == (
        "I could not calculate 1/0: Division by zero."
        " I could not search the documents: memory is down."
    )


async def test_without_a_tool_for_it_nothing_is_made_up() -> None:
    """What would need a tool that is not offered is declined."""
    completion = await complete([said("What is 3 times 4?")], [])
    assert text_of(completion) == "I was offered no calculator, so I cannot say what 3 times 4 is."


@pytest.mark.parametrize("text", ["Hello there!", "My name is Ada.", "Write a poem."])
async def test_a_statement_gets_an_introduction(text: str) -> None:
    """It says that it is rules and no language model, and what it can do."""
    completion = await complete([said(text)])
    assert text_of(completion) == INTRODUCTION
    assert "not a language model" in INTRODUCTION
    assert completion.stop_reason is StopReason.END


async def test_what_was_said_before_answers_where_documents_do_not() -> None:
    """Statements of the conversation count, its questions do not."""
    before = [
        said("My favourite colour is green."),
        said(INTRODUCTION, ROLE_ASSISTANT),
        said("What is my favourite colour, do you know?"),
    ]
    completion = await answer_from(
        "What is my favourite colour?",
        tool_result("call-1", "search_memory", "Nothing was found."),
        before=before,
    )
    assert text_of(completion) == "Earlier in this conversation: “My favourite colour is green.”"


async def test_calls_are_numbered_on_through_a_conversation() -> None:
    """A call's id is unique in its conversation, and earlier results stay with their calls."""
    first = await complete([said("What is 1+1?")])
    history = [
        said("You are helpful.", ROLE_SYSTEM), said("What is 1+1?"), first.message,
        tool_result("call-1", "calculator", "2"), said("1+1 is 2.", ROLE_ASSISTANT),
        said("What is 2+2?"),
    ]  # fmt: skip
    second = await complete(history)
    assert [call.call_id for call in second.message.tool_calls] == ["call-2"]
    answer = await complete([*history, second.message, tool_result("call-2", "calculator", "4")])
    assert text_of(answer) == "2+2 is 4."


async def test_calls_that_another_model_planned_are_answered_from() -> None:
    """After a fallback in the middle of a task the results are used all the same."""
    call = Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(call_id="x", tool="search_memory")])
    completion = await complete(
        [said("What are queues for?"), call, tool_result("x", "search_memory", "…", _OVERVIEW)]
    )
    assert text_of(completion) == "From docs/overview.md (lines 3-9): “Queues are per lane.” [1]."


async def test_any_tool_is_called_by_name() -> None:
    """A tool of one's own gets its arguments, and its answer is passed on."""
    weather = pb.ToolSpec(name="get_weather")
    weather.parameters.update({"properties": {"city": {"type": "string"}}, "required": ["city"]})
    assert await planned_calls("What's the weather in Berlin?", [*TOOLS, weather]) == [
        {"id": "call-1", "tool": "get_weather", "city": "Berlin"}
    ]
    question = said("What's the weather in Berlin?")
    completion = await complete(
        [question, tool_result("call-1", "get_weather", "18 °C")], [*TOOLS, weather]
    )
    assert text_of(completion) == "get_weather: 18 °C"


@pytest.mark.parametrize(
    ("text", "calls"),
    [
        ("I deleted the reminder 7 yesterday.", 0),
        ("The reminder 7 was deleted.", 0),
        ("Delete the reminder 7.", 1),
        ("I want to delete the reminder 7.", 1),
    ],
)
async def test_what_is_only_told_calls_no_tool(text: str, calls: int) -> None:
    """A tool that changes something is called by who asks for it."""
    tool = pb.ToolSpec(name="delete_reminder")
    tool.parameters.update({"properties": {"number": {"type": "integer"}}, "required": ["number"]})
    assert len(await planned_calls(text, [*TOOLS, tool])) == calls


async def test_own_tools_and_known_ones_are_called_together() -> None:
    """Each part of a request goes to the tool that it is for."""
    weather = pb.ToolSpec(name="get_weather")
    weather.parameters.update({"properties": {"city": {"type": "string"}}, "required": ["city"]})
    text = "What's the weather in Berlin, and what is 2 + 2?"
    assert await planned_calls(text, [*TOOLS, weather]) == [
        {"id": "call-1", "tool": "get_weather", "city": "Berlin"},
        {"id": "call-2", "tool": "calculator", "expression": "2 + 2"},
    ]
    text = "What's the weather in Berlin, and what is our refund policy?"
    called = await planned_calls(text, [*TOOLS, weather])
    assert [each["tool"] for each in called] == ["get_weather", "search_memory"]


async def test_a_stop_text_and_the_limit_of_tokens_end_the_answer() -> None:
    """The stop text is not part of the answer; a token is four bytes."""
    stopped = await complete([said("Hello!")], stop=["rules"])
    assert (text_of(stopped), stopped.stop_reason) == (
        "I am Agentmesh's offline model: ",
        StopReason.STOP_TEXT,
    )
    cut = await complete([said("Hello!")], max_output_tokens=2)
    assert (text_of(cut), cut.stop_reason, cut.output_tokens) == (
        "I am Age",
        StopReason.MAX_TOKENS,
        2,
    )


async def test_a_stream_gives_the_words_and_then_the_whole() -> None:
    """The words together are the text."""
    updates = [each async for each in offline_provider().stream(Prompt([said("Hello!")], []))]
    words, last = [each for each in updates if isinstance(each, str)], updates[-1]
    assert isinstance(last, Completion)
    assert "".join(words) == text_of(last) == INTRODUCTION
    assert words[:3] == ["I ", "am ", "Agentmesh's "]


async def test_tokens_are_counted_at_four_bytes_each() -> None:
    """Input by its encoded size, output by its text; both rounded up."""
    message = said("Hello!")
    completion = await complete([message], [])
    assert completion.input_tokens == -(-message.ByteSize() // 4)
    assert completion.output_tokens == -(-len(INTRODUCTION) // 4)


def test_the_description_says_what_it_is() -> None:
    """Wherever its name is shown, it says that it is no language model."""
    assert "no language model" in OFFLINE.description


@settings(deadline=None)
@given(st.text(min_size=1, max_size=300), st.text(max_size=300))
async def test_any_request_and_any_passage_is_survived(request: str, passage: str) -> None:
    """The same conversation gets the same answer, and quotes are from the passage."""
    citation = Citation(uri="a.md", start_line=1, end_line=2, snippet=passage, score=0.5)
    messages = [said(request), tool_result("call-1", "search_memory", passage, citation)]
    first, second = await complete(messages), await complete(messages)
    assert first == second
    for cited in first.citations:
        bare = "".join(character for character in cited.snippet if character.isalnum())
        assert bare in "".join(character for character in passage if character.isalnum())
