"""Answers as data, around any provider."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import asyncio
import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import aclosing
from dataclasses import replace

import pytest
from google.protobuf.json_format import MessageToDict
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_USER,
    Message,
    Part,
    ToolCall,
)
from meshkit.errors import ProviderFailed
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_failures import (
    Failure,
    TokensUsed,
    failure_of,
    provider_failure,
    used_by,
)
from services.reasoning.scripted_provider import PAID
from services.reasoning.structured import StructuredProvider

_SCHEMA = json.dumps(
    {
        "type": "object",
        "properties": {"city": {"type": "string"}, "people": {"type": "integer", "minimum": 1}},
        "required": ["city"],
        "additionalProperties": False,
    }
)
_PROMPT = Prompt(
    [
        Message(role=ROLE_SYSTEM, parts=[Part(text="Be brief.")]),
        Message(role=ROLE_USER, parts=[Part(text="Which city?")]),
    ],
    (),
    output_schema=_SCHEMA,
)


def _said(text: str, stop: StopReason = StopReason.END) -> Completion:
    message = Message(role=ROLE_ASSISTANT, parts=[Part(text=text)])
    return Completion(message, stop, 100, 10, cached_input_tokens=60)


class _Speaker:
    """Gives one answer after the other and keeps what it was asked."""

    def __init__(self, *answers: Completion | BaseException) -> None:
        self.answers = list(answers)
        self.asked: list[Prompt] = []
        self.closed = False

    async def complete(self, prompt: Prompt) -> Completion:
        self.asked.append(prompt)
        answer = self.answers.pop(0)
        if isinstance(answer, BaseException):
            raise answer
        return answer

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        try:
            completion = await self.complete(prompt)
            text = completion.message.parts[0].text
            for at in range(0, len(text), 10):
                yield text[at : at + 10]
            yield completion
        finally:
            self.closed = True


async def _read(stream: AsyncGenerator[str | Completion]) -> Sequence[str | Completion]:
    return [each async for each in stream]


def _texts(messages: Sequence[Message]) -> list[str]:
    return [message.parts[0].text for message in messages]


async def test_a_prompt_without_a_schema_passes_as_it_is() -> None:
    """And so does its answer, whether as a whole or in pieces."""
    prompt = replace(_PROMPT, output_schema="")
    speaker = _Speaker(_said("Ulm."), _said("Ulm."))
    structured = StructuredProvider(speaker, PAID, in_words=True)
    assert (await structured.complete(prompt)).data is None
    assert [each async for each in structured.stream(prompt)] == ["Ulm.", _said("Ulm.")]
    assert speaker.asked == [prompt, prompt]


async def test_a_model_is_told_of_the_schema_after_its_instructions() -> None:
    """What the agent's author says stays first, the conversation last."""
    speaker = _Speaker(_said('{"city": "Ulm", "people": 130000}'))
    answer = await StructuredProvider(speaker, PAID, in_words=True).complete(_PROMPT)
    assert answer.data is not None
    assert MessageToDict(answer.data) == {"city": "Ulm", "people": 130000}
    assert answer.message.parts[0].text == '{"city": "Ulm", "people": 130000}'
    (asked,) = speaker.asked
    assert _texts(asked.messages) == [
        "Be brief.",
        "Answer with one JSON object and nothing else: no text around it, no code fence."
        f" It must satisfy this JSON Schema:\n{_SCHEMA}",
        "Which city?",
    ]
    assert asked.output_schema == _SCHEMA


async def test_a_provider_that_knows_schemas_gets_the_prompt_as_it_is() -> None:
    """Nothing is added to what its model reads."""
    speaker = _Speaker(_said('{"city": "Ulm"}'))
    await StructuredProvider(speaker, PAID, in_words=False).complete(_PROMPT)
    assert speaker.asked == [_PROMPT]


async def test_an_answer_that_is_almost_json_is_repaired() -> None:
    """The message holds it as JSON, too, and nobody is asked again."""
    speaker = _Speaker(_said("Sure:\n```json\n{'city': 'Ulm',}\n```"))
    answer = await StructuredProvider(speaker, PAID, in_words=True).complete(_PROMPT)
    assert answer.message.parts[0].text == '{"city": "Ulm"}'
    assert answer.data is not None
    assert MessageToDict(answer.data) == {"city": "Ulm"}
    assert (answer.input_tokens, answer.output_tokens, len(speaker.asked)) == (100, 10, 1)


@pytest.mark.parametrize(
    ("first", "wrong"),
    [
        (_said("In Ulm."), "it holds no JSON object"),
        (_said('{"city": "Ulm'), "it ends before its JSON object does"),
        (_said('{"people": 0}'), "$.people: 0 is less than the minimum of 1; $: 'city' is a required property"),
        (_said('{"city": "Ul', StopReason.MAX_TOKENS), "it was cut off at the most tokens that it may have; be briefer"),
        (_said('{"city": "\\ud800"}'), "it holds half of a surrogate pair, which is no text"),
    ],
)  # fmt: skip
@pytest.mark.parametrize("in_words", [True, False])
async def test_a_model_is_asked_once_more_with_what_is_wrong(
    first: Completion, wrong: str, in_words: bool
) -> None:
    """The tokens of both answers count."""
    speaker = _Speaker(first, _said('{"city": "Ulm"}'))
    answer = await StructuredProvider(speaker, PAID, in_words=in_words).complete(_PROMPT)
    assert answer.data is not None
    assert MessageToDict(answer.data) == {"city": "Ulm"}
    used = (answer.input_tokens, answer.output_tokens, answer.cached_input_tokens)
    assert used == (200, 20, 120)
    again = speaker.asked[1]
    assert _texts(again.messages)[2:] == [
        "Which city?",
        first.message.parts[0].text,
        f"That is not what was asked for: {wrong}. Answer again, with the whole JSON object"
        " that satisfies the schema and nothing else.",
    ]
    assert again.output_schema == _SCHEMA


async def test_an_answer_that_fits_neither_time_fails_the_call() -> None:
    """With what was used; with where it is wrong, and not with what the model said."""
    speaker = _Speaker(_said("In Ulm."), _said('{"city": 7, "people": "secret"}'))
    with pytest.raises(ProviderFailed) as caught:
        await StructuredProvider(speaker, PAID, in_words=True).complete(_PROMPT)
    assert caught.value.message == (
        "The model paid (scripted) gave no answer that satisfies the output schema, asked twice:"
        " the schema is not satisfied at $.city, $.people."
    )
    assert failure_of(caught.value) is Failure.UNFIT_ANSWER
    assert used_by(caught.value) == TokensUsed(200, 20, 120)


async def test_what_the_first_answer_used_is_known_where_the_second_call_fails() -> None:
    """Somebody was paid for it."""
    failed = provider_failure(
        Failure.OVERLOADED, provider="scripted", model="paid", why="answered 529"
    )
    with pytest.raises(ProviderFailed) as caught:
        await StructuredProvider(_Speaker(_said("?"), failed), PAID, in_words=True).complete(
            _PROMPT
        )
    assert failure_of(caught.value) is Failure.OVERLOADED
    assert used_by(caught.value) == TokensUsed(100, 10, 60)


@pytest.mark.parametrize("streamed", [False, True])
async def test_what_the_first_answer_used_is_known_where_the_second_call_is_broken_off(
    streamed: bool,
) -> None:
    """Whoever left, the first one was made."""
    broken_off = asyncio.CancelledError()
    provider = StructuredProvider(_Speaker(_said("?"), broken_off), PAID, in_words=True)
    made = _read(provider.stream(_PROMPT)) if streamed else provider.complete(_PROMPT)
    with pytest.raises(asyncio.CancelledError) as caught:
        await made
    assert used_by(caught.value) == TokensUsed(100, 10, 60)


@pytest.mark.parametrize(
    "completion",
    [
        _said("I will not.", StopReason.REFUSED),
        Completion(
            Message(role=ROLE_ASSISTANT, tool_calls=[ToolCall(call_id="1", tool="a")]),
            StopReason.TOOL_CALLS,
            1,
            1,
        ),
    ],
)
async def test_tool_calls_and_refusals_are_no_answers(completion: Completion) -> None:
    """They pass without data."""
    speaker = _Speaker(completion)
    answer = await StructuredProvider(speaker, PAID, in_words=True).complete(_PROMPT)
    assert answer == completion


async def test_a_stream_gives_its_pieces_and_then_the_answer_that_fits() -> None:
    """The pieces are the first answer's; what counts comes last."""
    speaker = _Speaker(_said("The city is Ulm."), _said('{"city": "Ulm"}'))
    stream = StructuredProvider(speaker, PAID, in_words=True).stream(_PROMPT)
    updates = [each async for each in stream]
    assert updates[:-1] == ["The city i", "s Ulm."]
    answer = updates[-1]
    assert isinstance(answer, Completion)
    assert answer.message.parts[0].text == '{"city": "Ulm"}'
    assert answer.output_tokens == 20


async def test_a_stream_that_is_left_closes_the_models() -> None:
    """At once: nothing goes on for a caller that is gone."""
    speaker = _Speaker(_said('{"city": "Ulm"}'))
    async with aclosing(
        StructuredProvider(speaker, PAID, in_words=True).stream(_PROMPT)
    ) as updates:
        assert await anext(updates) == '{"city": "'
    assert speaker.closed


_CITIES = st.fixed_dictionaries(
    {"city": st.text(max_size=10)}, optional={"people": st.integers(1, 10**9)}
)


@settings(deadline=None)
@given(_CITIES, st.sampled_from(["", "Here it is: ", "```json\n"]), st.text("abc\n", max_size=10))
async def test_whatever_fits_is_answered_as_data(
    city: dict[str, object], before: str, after: str
) -> None:
    """However it is dressed up, the message and the data say the same."""
    speaker = _Speaker(_said(before + json.dumps(city) + after))
    answer = await StructuredProvider(speaker, PAID, in_words=True).complete(_PROMPT)
    assert answer.data is not None
    assert MessageToDict(answer.data) == json.loads(answer.message.parts[0].text) == city
