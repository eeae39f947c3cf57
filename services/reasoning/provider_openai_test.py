"""What is OpenAI's own: the wire, its many dialects, and what its SDK would do by itself."""

import json
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
from services.reasoning.generation import Prompt, StopReason
from services.reasoning.prompts import prompt_of, text_of
from services.reasoning.provider_failures import Failure, TokensUsed, failure_of, used_by
from services.reasoning.running_openai import SCHEMA, openai_and_client, streamed_by
from services.reasoning.upstream import USUAL_LIMITS, Reply, SaidCall, Script
from services.reasoning.upstream_openai import (
    KEY,
    MODEL,
)


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
        output_schema=json.dumps(SCHEMA),
    )
    async with openai_and_client() as (server, upstream), upstream.provider(Script()) as provider:
        await streamed_by(provider, prompt)
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
            "json_schema": {"name": "answer", "schema": SCHEMA, "strict": True},
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
    async with openai_and_client() as (server, upstream), upstream.provider(Script()) as provider:
        assert text_of(await provider.complete(prompt_of())) == "Hello, world."
        await streamed_by(provider, prompt_of())
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
        openai_and_client(key="") as (server, upstream),
        upstream.provider(Script(), key="") as provider,
    ):
        assert text_of(await provider.complete(prompt_of())) == "Hello, world."
    assert "authorization" not in server.http.requests[0].headers


async def test_nothing_is_logged(caplog: pytest.LogCaptureFixture) -> None:
    """Neither the prompt nor the key, however much is logged."""
    caplog.set_level("DEBUG")
    async with openai_and_client() as (_, upstream), upstream.provider(Script()) as provider:
        await provider.complete(prompt_of("the-hidden-words"))
    told = [
        each.getMessage() for each in caplog.records if each.name.startswith(("openai", "http"))
    ]
    assert told == []


async def test_what_a_refused_answer_used_is_told() -> None:
    """It has to be paid all the same."""
    reply = Reply((), (SaidCall("a", "nowhere", "{}"),), StopReason.TOOL_CALLS)
    async with (
        openai_and_client() as (_, upstream),
        upstream.provider(Script(reply=reply)) as provider,
    ):
        with pytest.raises(MeshError) as caught:
            await provider.complete(prompt_of())
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
    async with openai_and_client() as (_, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(prompt_of())
    assert failure_of(caught.value) is failure
    assert caught.value.message.endswith(f"The model scripted (openai) {words}.")


@pytest.mark.parametrize("code", ["content_filter", "content_policy_violation"])
async def test_a_prompt_that_is_filtered_is_an_answer_withheld(code: str) -> None:
    """As Azure has it: no other model would do better by trying again."""
    body = json.dumps({"error": {"message": "filtered", "code": code}})
    script = Script(status=400, refusal=body)
    async with openai_and_client() as (_, upstream), upstream.provider(script) as provider:
        whole = await provider.complete(prompt_of())
        _, streamed = await streamed_by(provider, prompt_of())
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
    async with openai_and_client() as (_, upstream), upstream.provider(script) as provider:
        _, completion = await streamed_by(provider, prompt_of(tools=tools))
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
    async with openai_and_client() as (_, upstream), upstream.provider(script) as provider:
        with pytest.raises(MeshError) as caught:
            await streamed_by(provider, prompt_of())
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
    async with openai_and_client() as (_, upstream), upstream.provider(script) as provider:
        _, completion = await streamed_by(provider, prompt_of(stop=["END"]))
    assert completion.stop_reason is StopReason.STOP_TEXT


async def test_a_packed_answer_is_not_unpacked() -> None:
    """What is small on the wire may be of any size."""
    script = Script(headers=(("content-encoding", "gzip"),))
    async with (
        openai_and_client() as (_, upstream),
        upstream.provider(script, USUAL_LIMITS) as provider,
    ):
        with pytest.raises(MeshError) as caught:
            await provider.complete(prompt_of())
    assert failure_of(caught.value) is Failure.BROKEN_ANSWER
    assert str(caught.value) == "The model scripted (openai) sent a packed answer."
