"""What servers that speak as OpenAI does take, and what is left out where they do not."""

import json
from typing import Any

import pytest

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_SYSTEM,
    ROLE_USER,
    Message,
    Part,
)
from meshkit.errors import MeshError
from services.reasoning.generation import Prompt, StopReason
from services.reasoning.prompts import prompt_of, text_of
from services.reasoning.provider_failures import Failure, failure_of
from services.reasoning.running_openai import SCHEMA, openai_and_client, streamed_by
from services.reasoning.upstream import Reply, Script


@pytest.mark.parametrize(
    ("refused", "parameter"),
    [
        ("temperature", {"temperature": 0.2}),
        ("seed", {"seed": 3}),
        ("max_tokens", {}),
    ],
)
async def test_a_parameter_that_is_refused_is_left_out_from_then_on(
    refused: str, parameter: dict[str, Any]
) -> None:
    """It costs one request once, and no answer."""
    async with (
        openai_and_client(refused=(refused,)) as (server, upstream),
        upstream.provider(Script()) as provider,
    ):
        for _ in range(2):
            assert text_of(await provider.complete(prompt_of(**parameter))) == "Hello, world."
    sent = [refused in request.body for request in server.http.requests]
    assert sent == [True, False, False]


async def test_the_limit_of_tokens_has_two_names() -> None:
    """OpenAI's newer models take the one, other servers the other, and some neither."""
    both = ("max_tokens", "max_completion_tokens")
    async with (
        openai_and_client(refused=both) as (server, upstream),
        upstream.provider(Script()) as provider,
    ):
        await provider.complete(prompt_of())
    named = [[each for each in both if each in request.body] for request in server.http.requests]
    assert named == [["max_tokens"], ["max_completion_tokens"], []]


@pytest.mark.parametrize(
    "error",
    [
        {"message": "max_tokens is too large: 4096. This model supports at most 1024."},
        {"message": "This model's maximum context length is 4096 tokens.", "param": "max_tokens"},
    ],
)
async def test_a_limit_that_is_too_high_is_not_left_out(error: dict[str, str]) -> None:
    """An answer without a limit could cost anything."""
    script = Script(status=400, refusal=json.dumps({"error": error}))
    async with openai_and_client() as (server, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(prompt_of())
    assert failure_of(caught.value) is Failure.REJECTED
    assert len(server.http.requests) == 1


async def test_a_server_that_names_no_parameter_is_understood_by_its_words() -> None:
    """As those on FastAPI answer: 422, with a list. What did not help is not remembered."""
    body = json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]})
    script = Script(status=422, refusal=body)
    async with openai_and_client() as (server, upstream), upstream.provider(script) as provider:
        for _ in range(2):
            with pytest.raises(MeshError):
                await provider.complete(prompt_of(seed=1))
    assert ["seed" in request.body for request in server.http.requests] == [True, False] * 2


async def test_a_server_that_counts_no_streams_is_asked_without() -> None:
    """What it used is estimated then."""
    async with (
        openai_and_client(refused=("stream_options",)) as (_, upstream),
        upstream.provider(Script(reply=Reply(("x" * 40,)))) as provider,
    ):
        _, completion = await streamed_by(provider, prompt_of())
    assert completion.output_tokens == 10


async def test_a_server_without_schemas_is_told_the_shape_in_words() -> None:
    """After the agent's own instructions."""
    prompt = Prompt(
        [
            Message(role=ROLE_SYSTEM, parts=[Part(text="Be brief.")]),
            Message(role=ROLE_USER, parts=[Part(text="Add.")]),
        ],
        (),
        output_schema=json.dumps(SCHEMA),
    )
    async with (
        openai_and_client(refused=("response_format",)) as (server, upstream),
        upstream.provider(Script()) as provider,
    ):
        await provider.complete(prompt)
    asked = [
        request.body.get("response_format", {}).get("type") for request in server.http.requests
    ]
    assert asked == ["json_schema", "json_object", None]
    own, told, _ = server.http.requests[-1].body["messages"]
    assert own["content"] == "Be brief."
    assert told == {
        "role": "system",
        "content": "Answer with JSON alone. It must satisfy this JSON Schema:\n"
        + json.dumps(SCHEMA),
    }


async def test_an_open_schema_is_not_called_strict() -> None:
    """OpenAI refuses schemas as strict whose objects are open, or of optional parts."""
    schema = {"type": "object", "properties": {"a": {"type": "object"}}}
    async with openai_and_client() as (server, upstream), upstream.provider(Script()) as provider:
        await provider.complete(prompt_of(output_schema=json.dumps(schema)))
    assert server.http.requests[0].body["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize("pieces", [("Once STOP twice",), ("Once S", "TOP tw", "ice")])
async def test_stop_texts_work_where_the_server_refuses_them(pieces: tuple[str, ...]) -> None:
    """As OpenAI's models that think do."""
    script = Script(reply=Reply(pieces))
    async with (
        openai_and_client(refused=("stop",)) as (_, upstream),
        upstream.provider(script) as provider,
    ):
        whole = await provider.complete(prompt_of(stop=["STOP"]))
        parts, streamed = await streamed_by(provider, prompt_of(stop=["STOP"]))
    assert (text_of(whole), whole.stop_reason) == ("Once ", StopReason.STOP_TEXT)
    assert (text_of(streamed), streamed.stop_reason) == ("Once ", StopReason.STOP_TEXT)
    assert "".join(parts) == "Once "
