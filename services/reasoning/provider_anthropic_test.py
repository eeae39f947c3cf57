"""What is Anthropic's own, beside what every provider does (conformance_test.py)."""

import json
import logging
from collections.abc import AsyncGenerator
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
from meshkit.errors import InvalidField, MeshError
from meshkit.json_struct import to_struct
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.provider_failures import Failure, TokensUsed, failure_of, used_by
from services.reasoning.upstream import Reply, SaidCall, Script
from services.reasoning.upstream_anthropic import (
    KEY,
    AnthropicFormat,
    AnthropicUpstream,
    anthropic_server,
)

_CLOSED = {"type": "object", "properties": {"a": {"type": "string"}}, "required": ["a"]}
_OPEN = {"type": "object", "additionalProperties": {"type": "string"}}


@asynccontextmanager
async def _upstream(*refused: str) -> AsyncGenerator[AnthropicUpstream]:
    async with anthropic_server(AnthropicFormat(refused=refused)) as server:
        yield AnthropicUpstream(server)


def _message(role: int, text: str) -> Message:
    return Message(role=role, parts=[Part(text=text)])  # pyright: ignore[reportArgumentType]


def _call(*ids: str) -> Message:
    calls = [ToolCall(call_id=each, tool="add", arguments=to_struct({"n": 1})) for each in ids]
    return Message(role=ROLE_ASSISTANT, tool_calls=calls)


def _result(call_id: str, text: str = "2", *, is_error: bool = False) -> Message:
    result = ToolResult(call_id=call_id, tool="add", text=text, is_error=is_error)
    return Message(role=ROLE_TOOL, tool_result=result)


def _user(*texts: str) -> dict[str, Any]:
    return {"role": "user", "content": [{"type": "text", "text": each} for each in texts]}


async def _sent(prompt: Prompt, script: Script | None = None) -> dict[str, Any]:
    """The request that comes of a prompt, and that the server takes."""
    async with _upstream() as upstream, upstream.provider(script or Script()) as provider:
        await provider.complete(prompt)
        (request,) = upstream.requests
        return request.body


_ADD = pb.ToolSpec(name="add", description="Adds.", parameters=to_struct({"type": "object"}))
_ASKED = _message(ROLE_USER, "What is 1 + 1?")


async def test_turns_of_one_role_become_one_and_results_stand_first() -> None:
    """As the API wants it: several results in one turn, before what the user says besides."""
    failed = _result("b", "no", is_error=True)
    messages = [
        _message(ROLE_SYSTEM, "Be brief."),
        _message(ROLE_USER, "One."),
        _message(ROLE_USER, "Two."),
        _call("a", "b"),
        _result("a"),
        _message(ROLE_USER, "Well?"),
        failed,
    ]
    body = await _sent(Prompt(messages, [_ADD]))
    assert body["system"] == [{"type": "text", "text": "Be brief."}]
    asked, said, answered = body["messages"]
    assert asked == _user("One.", "Two.")
    assert said["content"] == [
        {"type": "tool_use", "id": each, "name": "add", "input": {"n": 1}} for each in ("a", "b")
    ]
    assert answered["content"] == [
        {"type": "tool_result", "tool_use_id": "a", "content": "2"},
        {"type": "tool_result", "tool_use_id": "b", "content": "no", "is_error": True},
        {"type": "text", "text": "Well?"},
    ]
    assert body["tools"] == [
        {"name": "add", "description": "Adds.", "input_schema": {"type": "object"}}
    ]


async def test_a_conversation_with_holes_is_sent_whole() -> None:
    """Calls without a result, results without a call, and a beginning that was left out."""
    messages = [
        _result("gone"),
        _call("a"),
        _message(ROLE_USER, "Never mind."),
        _message(ROLE_ASSISTANT, "As you like."),
        _message(ROLE_USER, " \n"),
    ]
    body = await _sent(Prompt(messages, [_ADD]))
    assert body["messages"][0] == _user("Result of add: 2")
    assert body["messages"][2]["content"] == [
        {
            "type": "tool_result",
            "tool_use_id": "a",
            "content": "There is no result of this call.",
            "is_error": True,
        },
        {"type": "text", "text": "Never mind."},
    ]
    assert body["messages"][-1] == _user("Go on.")


@pytest.mark.parametrize(
    ("messages", "turns"),
    [
        ([_message(ROLE_SYSTEM, "Say something.")], [_user("Say something.")]),
        (
            [_message(ROLE_ASSISTANT, "Hello."), _ASKED],
            [
                _user("(The conversation begins earlier.)"),
                {"role": "assistant", "content": [{"type": "text", "text": "Hello."}]},
                _user("What is 1 + 1?"),
            ],
        ),
        ([_ASKED, _message(ROLE_SYSTEM, "Now.")], [_user("What is 1 + 1?")]),
    ],
)
async def test_any_order_of_roles_is_sendable(
    messages: list[Message], turns: list[dict[str, Any]]
) -> None:
    """The user begins, and instructions stand apart, wherever they were given."""
    assert (await _sent(Prompt(messages, ())))["messages"] == turns


async def test_past_calls_keep_their_tools_when_none_are_offered() -> None:
    """Which the model may not call any more."""
    body = await _sent(Prompt([_ASKED, _call("a"), _result("a")], ()))
    assert body["tool_choice"] == {"type": "none"}
    assert [each["name"] for each in body["tools"]] == ["add"]


async def test_ids_that_the_api_does_not_take_are_replaced_alike() -> None:
    """A call of another provider still has its result."""
    body = await _sent(Prompt([_ASKED, _call("x:1/ä"), _result("x:1/ä")], [_ADD]))
    call = body["messages"][1]["content"][0]["id"]
    assert call == body["messages"][2]["content"][0]["tool_use_id"]
    assert call.isalnum()


async def test_a_long_beginning_is_marked_for_the_cache() -> None:
    """After the first instructions, with the tools before them; a short one is not."""
    long = [_message(ROLE_SYSTEM, "Rules. " * 800), _ASKED, _message(ROLE_SYSTEM, "Now.")]
    first, later = (await _sent(Prompt(long, [_ADD])))["system"]
    assert first["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in later
    described = pb.ToolSpec(name="add", description="Adds. " * 1000)
    (tool,) = (await _sent(Prompt([_ASKED], [described])))["tools"]
    assert tool["cache_control"] == {"type": "ephemeral"}
    assert "cache_control" not in json.dumps(await _sent(Prompt([_ASKED], [_ADD])))


async def test_what_the_api_does_not_know_is_left_out() -> None:
    """Its newest version refuses temperatures; it has no seeds, and no blank stop texts."""
    script = Script(reply=Reply(("one\n", "two")))
    async with _upstream() as upstream, upstream.provider(script) as provider:
        prompt = Prompt([_ASKED], (), temperature=0.5, seed=7, stop=["\n", "END"])
        completion = await provider.complete(prompt)
        (request,) = upstream.requests
    assert not {"temperature", "seed"} & set(request.body)
    assert request.body["stop_sequences"] == ["END"]
    assert completion.stop_reason is StopReason.STOP_TEXT
    assert completion.message.parts[0].text == "one"


async def test_an_image_of_another_kind_is_refused_here() -> None:
    """With which are taken."""
    image = Image(media_type="image/tiff", data=b"II")
    async with _upstream() as upstream, upstream.provider(Script()) as provider:
        with pytest.raises(InvalidField) as caught:
            await provider.complete(
                Prompt([Message(role=ROLE_USER, parts=[Part(image=image)])], ())
            )
        assert not upstream.requests
    assert caught.value.message.endswith("takes images as GIF, JPEG, PNG or WebP only.")


async def _answered(
    schema: dict[str, Any], reply: Reply, *refused: str, tools: tuple[pb.ToolSpec, ...] = ()
) -> tuple[list[dict[str, Any]], Completion, Completion]:
    """What was sent, and the answers: whole, and in pieces."""
    prompt = Prompt([_ASKED], tools, output_schema=json.dumps(schema))
    async with _upstream(*refused) as upstream, upstream.provider(Script(reply=reply)) as provider:
        whole = await provider.complete(prompt)
        *pieces, streamed = [each async for each in provider.stream(prompt)]
        assert isinstance(streamed, Completion)
        assert "".join(map(str, pieces)) == streamed.message.parts[0].text
        return [each.body for each in upstream.requests], whole, streamed


async def test_the_api_promises_schemas_that_it_knows() -> None:
    """Objects that are closed, as it wants them."""
    sent, whole, streamed = await _answered(_CLOSED, Reply(('{"a": ', '"b"}')))
    closed = {**_CLOSED, "additionalProperties": False}
    assert sent[0]["output_config"] == {"format": {"type": "json_schema", "schema": closed}}
    assert "tools" not in sent[0]
    assert whole.message == streamed.message
    assert whole.message.parts[0].text == '{"a": "b"}'


_GIVEN = Reply((), (SaidCall("id-a", "give_answer", '{"a": "b"}'),), StopReason.TOOL_CALLS)


@pytest.mark.parametrize(
    ("schema", "refused"), [(_OPEN, ()), ({"type": "object"}, ()), (_CLOSED, ("output_config",))]
)
async def test_other_schemas_are_those_of_a_tool_that_takes_the_answer(
    schema: dict[str, Any], refused: tuple[str, ...]
) -> None:
    """Which the model has to call; what it gives there is what it says."""
    sent, whole, streamed = await _answered(schema, _GIVEN, *refused)
    last = sent[-1]
    assert last["tool_choice"] == {"type": "tool", "name": "give_answer"}
    assert last["tools"][0]["input_schema"] == schema
    # What was learned of the model is kept.
    assert len(sent) == 2 + len(refused)
    assert whole.message == streamed.message
    assert (whole.stop_reason, whole.message.parts[0].text) == (StopReason.END, '{"a": "b"}')
    assert not whole.message.tool_calls


async def test_an_answer_or_another_tool_is_the_models_choice() -> None:
    """A tool that is called like the one for answers keeps its name."""
    tool = pb.ToolSpec(name="give_answer")
    reply = Reply((), (SaidCall("i", "give_answer_2", '{"a": "b"}'),), StopReason.TOOL_CALLS)
    sent, whole, _ = await _answered(_OPEN, reply, tools=(tool,))
    assert sent[0]["tool_choice"] == {"type": "any"}
    assert [each["name"] for each in sent[0]["tools"]] == ["give_answer", "give_answer_2"]
    assert whole.message.parts[0].text == '{"a": "b"}'


async def test_a_model_that_cannot_be_made_to_call_a_tool_is_asked_to() -> None:
    """Models that think first refuse to be forced."""
    sent, whole, _ = await _answered(_OPEN, Reply(('{"a": "b"}',)), "tool_choice")
    assert ["tool_choice" in each for each in sent] == [True, False, False]
    assert whole.message.parts[0].text == '{"a": "b"}'


def _events(*events: dict[str, Any]) -> str:
    return "".join(f"event: {each['type']}\ndata: {json.dumps(each)}\n\n" for each in events)


_USAGE = {
    "input_tokens": 20,
    "cache_creation_input_tokens": 30,
    "cache_read_input_tokens": 50,
    "output_tokens": 1,
}
_START = {"type": "message_start", "message": {"usage": _USAGE}}
_TEXT = {"type": "content_block_start", "index": 0, "content_block": {"type": "text", "text": ""}}
_SAID = {
    "type": "content_block_delta",
    "index": 0,
    "delta": {"type": "text_delta", "text": "Well, " * 4},
}


async def _streamed(body: str) -> Completion:
    async with _upstream() as upstream, upstream.provider(Script(body=body)) as provider:
        *_, last = [each async for each in provider.stream(Prompt([_ASKED], ()))]
        assert isinstance(last, Completion)
        return last


def _end(stop: str) -> list[dict[str, Any]]:
    delta = {"type": "message_delta", "delta": {"stop_reason": stop}, "usage": {"output_tokens": 9}}
    return [delta, {"type": "message_stop"}]


async def test_all_input_counts_and_what_was_cached_is_a_part_of_it() -> None:
    """The API tells apart what it read from its cache, what it put there, and the rest."""
    answer = await _streamed(_events(_START, _TEXT, _SAID, *_end("end_turn")))
    assert (answer.input_tokens, answer.cached_input_tokens, answer.output_tokens) == (100, 50, 9)


@pytest.mark.parametrize(
    ("stop", "reason"),
    [
        ("pause_turn", StopReason.MAX_TOKENS),
        ("model_context_window_exceeded", StopReason.MAX_TOKENS),
        ("refusal", StopReason.REFUSED),
        ("something_new", StopReason.END),
    ],
)
async def test_other_reasons_to_stop(stop: str, reason: StopReason) -> None:
    """What did not come to its end is never said to have."""
    answer = await _streamed(_events(_START, _TEXT, _SAID, *_end(stop)))
    assert answer.stop_reason is reason


async def test_thoughts_and_events_of_new_kinds_are_no_part_of_the_answer() -> None:
    """The API says that more of both may come."""
    thought = {"type": "thinking", "thinking": "", "signature": ""}
    thinking = {"type": "thinking_delta", "thinking": "Hm."}
    events = [
        _START,
        {"type": "content_block_start", "index": 1, "content_block": thought},
        {"type": "content_block_delta", "index": 1, "delta": thinking},
        {"type": "something_new", "index": 1},
        _TEXT,
        _SAID,
        *_end("end_turn"),
    ]  # fmt: skip
    answer = await _streamed(_events(*events))
    assert [part.text for part in answer.message.parts] == ["Well, " * 4]


@pytest.mark.parametrize(
    ("kind", "failure"),
    [
        ("overloaded_error", Failure.OVERLOADED),
        ("rate_limit_error", Failure.RATE_LIMITED),
        ("api_error", Failure.SERVER_ERROR),
        ("sk-ant-secret", Failure.SERVER_ERROR),
    ],
)
async def test_an_error_within_a_stream_has_its_name_and_what_was_used(
    kind: str, failure: Failure
) -> None:
    """The server answered 200 before it failed: somebody pays for that."""
    error = {"type": "error", "error": {"type": kind, "message": "secret words"}}
    with pytest.raises(MeshError) as caught:
        await _streamed(_events(_START, _TEXT, _SAID, error))
    assert failure_of(caught.value) is failure
    assert used_by(caught.value) == TokensUsed(100, 6, 50)
    assert "secret" not in f"{caught.value!r} {caught.value.metadata}"


@pytest.mark.parametrize(
    ("status", "failure"),
    [
        (402, Failure.UNAUTHORISED),
        (403, Failure.UNAUTHORISED),
        (413, Failure.REJECTED),
        (429, Failure.RATE_LIMITED),
        (500, Failure.SERVER_ERROR),
        (504, Failure.TIMEOUT),
        (529, Failure.OVERLOADED),
    ],
)
async def test_a_status_says_what_went_wrong(status: int, failure: Failure) -> None:
    """Each once: nobody retries here."""
    async with _upstream() as upstream, upstream.provider(Script(status=status)) as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(Prompt([_ASKED], ()))
        assert len(upstream.requests) == 1
    assert failure_of(caught.value) is failure


async def test_no_key_is_no_header() -> None:
    """Servers of the same format may want none; this one does."""
    async with _upstream() as upstream, upstream.provider(Script(), key="") as provider:
        with pytest.raises(MeshError) as caught:
            await provider.complete(Prompt([_ASKED], ()))
        (request,) = upstream.requests
    assert failure_of(caught.value) is Failure.UNAUTHORISED
    assert "authorization" not in request.headers


async def test_nothing_of_this_machine_and_its_environment_is_sent(
    monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    """Keys and headers of the environment belong to somebody else; nothing is logged."""
    caplog.set_level(logging.DEBUG)
    for name in ("ANTHROPIC_API_KEY", "ANTHROPIC_AUTH_TOKEN", "ANTHROPIC_LOG"):
        monkeypatch.setenv(name, "debug")
    monkeypatch.setenv("ANTHROPIC_CUSTOM_HEADERS", "x-tenant: secret")
    async with _upstream() as upstream, upstream.provider(Script()) as provider:
        await provider.complete(Prompt([_message(ROLE_USER, "hidden words")], ()))
        (request,) = upstream.requests
        assert KEY not in f"{provider!r}"
    assert request.headers["authorization"] == f"Bearer {KEY}"
    assert not [name for name in request.headers if name.startswith("x-") and "script" not in name]
    assert "hidden words" not in caplog.text
    assert KEY not in caplog.text
