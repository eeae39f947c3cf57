"""What is OpenAI's own: the wire, its many dialects, and what its SDK would do by itself."""

import json
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Any

import pytest

from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Image,
    Message,
    Part,
    ToolCall,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.errors import MeshError
from services.reasoning.generation import Completion, Prompt, Provider, StopReason
from services.reasoning.provider_failures import Failure, TokensUsed, failure_of, used_by
from services.reasoning.upstream import USUAL_LIMITS, Reply, SaidCall, Script
from services.reasoning.upstream_openai import (
    KEY,
    MODEL,
    OpenAIFormat,
    OpenAIServer,
    OpenAIUpstream,
    openai_server,
)

_SCHEMA = {
    "type": "object",
    "properties": {"total": {"type": "number"}},
    "required": ["total"],
    "additionalProperties": False,
}


def _prompt(text: str = "Hello", **more: Any) -> Prompt:
    message = Message(role=ROLE_USER, parts=[Part(text=text)])
    return Prompt([message], more.pop("tools", ()), **more)


def _text(completion: Completion) -> str:
    return "".join(part.text for part in completion.message.parts)


async def _streamed(provider: Provider, prompt: Prompt) -> tuple[list[str], Completion]:
    *pieces, whole = [update async for update in provider.stream(prompt)]
    assert isinstance(whole, Completion)
    return [each for each in pieces if isinstance(each, str)], whole


@asynccontextmanager
async def _server(
    *, key: str = KEY, refused: Sequence[str] = ()
) -> AsyncGenerator[tuple[OpenAIServer, OpenAIUpstream]]:
    async with openai_server(OpenAIFormat(key=key, refused=refused)) as server:
        yield server, OpenAIUpstream(server)


async def test_the_request_is_as_published() -> None:
    """Every part of a prompt has its place."""
    call = ToolCall(call_id="call-1", tool="files.read")
    call.arguments.update({"path": "a", "lines": 3})
    read = pb.ToolSpec(name="files.read", description="Reads.")
    read.parameters.update({"type": "object", "properties": {"path": {"type": "string"}}})
    prompt = Prompt(
        [
            Message(role=ROLE_SYSTEM, parts=[Part(text="Be brief."), Part(text="Be kind.")]),
            Message(
                role=ROLE_USER,
                parts=[Part(text="Look:"), Part(image=Image(media_type="image/png", data=b"\x01"))],
            ),
            Message(role=ROLE_ASSISTANT, parts=[Part(text="Reading.")], tool_calls=[call]),
            Message(
                role=ROLE_TOOL,
                tool_result=ToolResult(
                    call_id="call-1", tool="files.read", is_error=True, text="no such file"
                ),
            ),
        ],
        [read],
        max_output_tokens=50,
        temperature=0.5,
        stop=["END"],
        seed=7,
        output_schema=json.dumps(_SCHEMA),
    )
    async with _server() as (server, upstream), upstream.provider(Script()) as provider:
        await _streamed(provider, prompt)
    assert server.http.requests[0].body == {
        "model": MODEL,
        "messages": [
            {"role": "system", "content": "Be brief.\n\nBe kind."},
            {
                "role": "user",
                "content": [
                    {"type": "text", "text": "Look:"},
                    {"type": "image_url", "image_url": {"url": "data:image/png;base64,AQ=="}},
                ],
            },
            {
                "role": "assistant",
                "content": "Reading.",
                "tool_calls": [
                    {
                        "id": "call-1",
                        "type": "function",
                        "function": {
                            "name": "files_read",
                            "arguments": '{"lines": 3, "path": "a"}',
                        },
                    }
                ],
            },
            {"role": "tool", "tool_call_id": "call-1", "content": "Error: no such file"},
        ],
        "max_tokens": 50,
        "tools": [
            {
                "type": "function",
                "function": {
                    "name": "files_read",
                    "description": "Reads.",
                    "parameters": {"type": "object", "properties": {"path": {"type": "string"}}},
                },
            }
        ],
        "temperature": 0.5,
        "seed": 7,
        "stop": ["END"],
        "response_format": {
            "type": "json_schema",
            "json_schema": {"name": "answer", "schema": _SCHEMA, "strict": True},
        },
        "stream": True,
        "stream_options": {"include_usage": True},
    }


async def test_nothing_of_this_machine_is_sent(monkeypatch: pytest.MonkeyPatch) -> None:
    """Neither what the SDK tells of the machine nor what it finds in the environment."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    monkeypatch.setenv("OPENAI_ADMIN_KEY", "sk-admin")
    monkeypatch.setenv("OPENAI_ORG_ID", "org-of-somebody-else")
    monkeypatch.setenv("OPENAI_PROJECT_ID", "project-of-somebody-else")
    monkeypatch.setenv("OPENAI_BASE_URL", "http://127.0.0.1:1/v1")
    monkeypatch.setenv("OPENAI_CUSTOM_HEADERS", "Authorization: Basic x\nX-Secret: y")
    monkeypatch.setenv("HTTP_PROXY", "http://127.0.0.1:1")
    monkeypatch.setenv("ALL_PROXY", "http://127.0.0.1:1")
    async with _server() as (server, upstream), upstream.provider(Script()) as provider:
        assert _text(await provider.complete(_prompt())) == "Hello, world."
        await _streamed(provider, _prompt())
    for request in server.http.requests:
        assert sorted(request.headers) == [
            "accept",
            "accept-encoding",
            "authorization",
            "connection",
            "content-length",
            "content-type",
            "host",
            "user-agent",
            "x-agentmesh-script",
        ]
        assert request.headers["authorization"] == f"Bearer {KEY}"
    assert server.http.connections == 1


async def test_a_server_without_keys_is_sent_none(monkeypatch: pytest.MonkeyPatch) -> None:
    """As vLLM and Ollama are run at home."""
    monkeypatch.setenv("OPENAI_API_KEY", "sk-of-somebody-else")
    async with (
        _server(key="") as (server, upstream),
        upstream.provider(Script(), key="") as provider,
    ):
        assert _text(await provider.complete(_prompt())) == "Hello, world."
    assert "authorization" not in server.http.requests[0].headers


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the prompt nor the key, however much is logged."""
    caplog.set_level("DEBUG")
    async with _server() as (_, upstream), upstream.provider(Script()) as provider:
        await provider.complete(_prompt("the-hidden-words"))
    told = [
        each.getMessage() for each in caplog.records if each.name.startswith(("openai", "http"))
    ]
    assert told == []


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
        _server(refused=(refused,)) as (server, upstream),
        upstream.provider(Script()) as provider,
    ):
        for _ in range(2):
            assert _text(await provider.complete(_prompt(**parameter))) == "Hello, world."
    sent = [refused in request.body for request in server.http.requests]
    assert sent == [True, False, False]


async def test_the_limit_of_tokens_has_two_names() -> None:
    """OpenAI's newer models take the one, other servers the other, and some neither."""
    both = ("max_tokens", "max_completion_tokens")
    async with (
        _server(refused=both) as (server, upstream),
        upstream.provider(Script()) as provider,
    ):
        await provider.complete(_prompt())
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
    async with _server() as (server, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(_prompt())
    assert failure_of(caught.value) is Failure.REJECTED
    assert len(server.http.requests) == 1


async def test_a_server_that_names_no_parameter_is_understood_by_its_words() -> None:
    """As those on FastAPI answer: 422, with a list. What did not help is not remembered."""
    body = json.dumps({"detail": [{"loc": ["body", "seed"], "msg": "Extra inputs"}]})
    script = Script(status=422, refusal=body)
    async with _server() as (server, upstream), upstream.provider(script) as provider:
        for _ in range(2):
            with pytest.raises(MeshError):
                await provider.complete(_prompt(seed=1))
    assert ["seed" in request.body for request in server.http.requests] == [True, False] * 2


async def test_a_server_that_counts_no_streams_is_asked_without() -> None:
    """What it used is estimated then."""
    async with (
        _server(refused=("stream_options",)) as (_, upstream),
        upstream.provider(Script(reply=Reply(("x" * 40,)))) as provider,
    ):
        _, completion = await _streamed(provider, _prompt())
    assert completion.output_tokens == 10


async def test_a_server_without_schemas_is_told_the_shape_in_words() -> None:
    """After the agent's own instructions."""
    prompt = Prompt(
        [
            Message(role=ROLE_SYSTEM, parts=[Part(text="Be brief.")]),
            Message(role=ROLE_USER, parts=[Part(text="Add.")]),
        ],
        (),
        output_schema=json.dumps(_SCHEMA),
    )
    async with (
        _server(refused=("response_format",)) as (server, upstream),
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
        + json.dumps(_SCHEMA),
    }


async def test_an_open_schema_is_not_called_strict() -> None:
    """OpenAI refuses schemas as strict whose objects are open, or of optional parts."""
    schema = {"type": "object", "properties": {"a": {"type": "object"}}}
    async with _server() as (server, upstream), upstream.provider(Script()) as provider:
        await provider.complete(_prompt(output_schema=json.dumps(schema)))
    assert server.http.requests[0].body["response_format"]["json_schema"]["strict"] is False


@pytest.mark.parametrize("pieces", [("Once STOP twice",), ("Once S", "TOP tw", "ice")])
async def test_stop_texts_work_where_the_server_refuses_them(pieces: tuple[str, ...]) -> None:
    """As OpenAI's models that think do."""
    script = Script(reply=Reply(pieces))
    async with (
        _server(refused=("stop",)) as (_, upstream),
        upstream.provider(script) as provider,
    ):
        whole = await provider.complete(_prompt(stop=["STOP"]))
        parts, streamed = await _streamed(provider, _prompt(stop=["STOP"]))
    assert (_text(whole), whole.stop_reason) == ("Once ", StopReason.STOP_TEXT)
    assert (_text(streamed), streamed.stop_reason) == ("Once ", StopReason.STOP_TEXT)
    assert "".join(parts) == "Once "


async def test_what_a_refused_answer_used_is_told() -> None:
    """It has to be paid all the same."""
    reply = Reply((), (SaidCall("a", "nowhere", "{}"),), StopReason.TOOL_CALLS)
    async with _server() as (_, upstream), upstream.provider(Script(reply=reply)) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(_prompt())
    assert str(caught.value) == (
        "The model scripted (openai) wants a tool called that it was not offered."
    )
    assert used_by(caught.value) == TokensUsed(12, 5)


@pytest.mark.parametrize(
    ("status", "body", "failure", "words"),
    [
        (
            400,
            {"code": "context_length_exceeded", "param": "messages", "message": "the-prompt"},
            Failure.REJECTED,
            "answered 400 (context_length_exceeded: messages)",
        ),
        (
            400,
            {"code": "The prompt: the-prompt", "param": "the-prompt !", "message": "the-prompt"},
            Failure.REJECTED,
            "answered 400",
        ),
        (
            429,
            {"code": "insufficient_quota", "message": "Check your plan."},
            Failure.UNAUTHORISED,
            "answered 429 (insufficient_quota)",
        ),
        (
            400,
            {"code": 400, "param": ["the-prompt"], "message": "the-prompt"},
            Failure.REJECTED,
            "answered 400",
        ),
        (401, {"message": f"Incorrect: {KEY}"}, Failure.UNAUTHORISED, "answered 401"),
        (529, {"message": "busy"}, Failure.OVERLOADED, "answered 529"),
        (302, {"message": "elsewhere"}, Failure.BROKEN_ANSWER, "answered 302"),
    ],
)
async def test_a_refusal_is_told_by_its_codes_alone(
    status: int, body: dict[str, Any], failure: Failure, words: str
) -> None:
    """Its text may hold the prompt, and sometimes holds the key."""
    script = Script(status=status, refusal=json.dumps({"error": body}))
    async with _server() as (_, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(_prompt())
    assert failure_of(caught.value) is failure
    assert caught.value.message.endswith(f"The model scripted (openai) {words}.")


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
async def test_a_prompt_that_is_filtered_is_an_answer_withheld(code: str) -> None:
    """As Azure has it: no other model would do better by trying again."""
    body = json.dumps({"error": {"message": "filtered", "code": code}})
    script = Script(status=400, refusal=body)
    async with _server() as (_, upstream), upstream.provider(script) as provider:
        whole = await provider.complete(_prompt())
        _, streamed = await _streamed(provider, _prompt())
    assert (whole.stop_reason, streamed.stop_reason) == (StopReason.REFUSED, StopReason.REFUSED)


def _sse(*events: object) -> str:
    return "".join(f"data: {json.dumps(each)}\n\n" for each in events)


def _delta(delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {"choices": [{"index": 0, "delta": delta, "finish_reason": finish}]}


def _called(**said: Any) -> dict[str, Any]:
    return _delta({"tool_calls": [said]})


@pytest.mark.parametrize(
    "events",
    [
        # One chunk for each call, all numbered 0: Gemini's compatible API.
        (
            _called(index=0, id="a", function={"name": "one", "arguments": "{}"}),
            _called(index=0, id="b", function={"name": "two", "arguments": "{}"}),
        ),
        # No numbers: Mistral's.
        (
            _called(id="a", function={"name": "one", "arguments": "{}"}),
            _called(id="b", function={"name": "two", "arguments": "{}"}),
        ),
        # Arguments as an object: Ollama's.
        (
            _called(index=0, id="a", function={"name": "one", "arguments": {}}),
            _called(index=1, id="b", function={"name": "two", "arguments": {}}),
        ),
        # The id again in every part.
        (
            _called(index=0, id="a", function={"name": "one", "arguments": "{"}),
            _called(index=0, id="a", function={"arguments": "}"}),
            _called(index=1, id="b", function={"name": "two", "arguments": ""}),
        ),
    ],
    ids=["all numbered 0", "no numbers", "objects", "ids again"],
)
async def test_servers_that_number_calls_their_own_way_are_understood(
    events: tuple[dict[str, Any], ...],
) -> None:
    """Two calls, and an end that says `stop`."""
    script = Script(body=_sse(*events, _delta({}, "stop")) + "data: [DONE]\n\n")
    tools = [pb.ToolSpec(name="one"), pb.ToolSpec(name="two")]
    async with _server() as (_, upstream), upstream.provider(script) as provider:
        _, completion = await _streamed(provider, _prompt(tools=tools))
    assert completion.stop_reason is StopReason.TOOL_CALLS
    assert [(each.call_id, each.tool) for each in completion.message.tool_calls] == [
        ("a", "one"),
        ("b", "two"),
    ]


@pytest.mark.parametrize(
    ("error", "failure", "words"),
    [
        ({"message": "the-prompt"}, Failure.SERVER_ERROR, "failed in the middle of its answer"),
        (
            {"message": "x", "code": 502},
            Failure.SERVER_ERROR,
            "failed in the middle of its answer (502)",
        ),
        (
            {"message": "x", "code": 429},
            Failure.RATE_LIMITED,
            "failed in the middle of its answer (429)",
        ),
        (
            {"message": "x", "code": "rate_limit_exceeded"},
            Failure.RATE_LIMITED,
            "failed in the middle of its answer (rate_limit_exceeded)",
        ),
    ],
)
async def test_an_error_within_a_stream_is_told(
    error: dict[str, Any], failure: Failure, words: str
) -> None:
    """As vLLM and routers send it, after text; what was said by then is told as used."""
    script = Script(body=_sse(_delta({"content": "Once upon a time"}), {"error": error}))
    async with _server() as (_, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await _streamed(provider, _prompt())
    assert failure_of(caught.value) is failure
    assert str(caught.value) == f"The model scripted (openai) {words}."
    used = used_by(caught.value)
    assert used is not None
    assert used.output_tokens == 4


async def test_vllm_says_which_text_it_stopped_at() -> None:
    """OpenAI's own format does not."""
    choice: dict[str, Any] = {"delta": {}, "finish_reason": "stop", "stop_reason": "END"}
    events = _sse(_delta({"content": "Once"}), {"choices": [choice]})
    script = Script(body=f"{events}data: [DONE]\n\n")
    async with _server() as (_, upstream), upstream.provider(script) as provider:
        _, completion = await _streamed(provider, _prompt(stop=["END"]))
    assert completion.stop_reason is StopReason.STOP_TEXT


async def test_a_packed_answer_is_not_unpacked() -> None:
    """What is small on the wire may be of any size."""
    script = Script(headers=(("content-encoding", "gzip"),))
    async with _server() as (_, upstream), upstream.provider(script, USUAL_LIMITS) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(_prompt())
    assert failure_of(caught.value) is Failure.BROKEN_ANSWER
    assert str(caught.value) == "The model scripted (openai) sent a packed answer."
