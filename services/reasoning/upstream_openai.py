"""Test-only: a server that speaks OpenAI's chat completions, as published and as others have it."""

import json
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from meshkit.clock import SystemClock
from services.reasoning.generation import Provider, StopReason
from services.reasoning.http_client import http_client
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.provider_failures import Failure
from services.reasoning.provider_openai import OpenAIProvider
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.scripted_upstream import (
    Answer,
    HttpRequest,
    ScriptedUpstream,
    carrying,
)
from services.reasoning.upstream import (
    USUAL_LIMITS,
    Ability,
    Limits,
    Reply,
    SaidCall,
    Script,
    Upstream,
)

MODEL: Final = "gpt-scripted"
KEY: Final = "sk-scripted-0123456789"
_PATH: Final = "/v1/chat/completions"
_FINISH: Final = {
    StopReason.END: "stop",
    StopReason.STOP_TEXT: "stop",
    StopReason.TOOL_CALLS: "tool_calls",
    StopReason.MAX_TOKENS: "length",
    StopReason.REFUSED: "content_filter",
}
_STATUS: Final = {
    Failure.OVERLOADED: 503,
    Failure.SERVER_ERROR: 500,
    Failure.RATE_LIMITED: 429,
    Failure.UNAUTHORISED: 401,
    Failure.NO_MODEL: 404,
    Failure.REJECTED: 400,
}
# What a request may hold, of what is published.
_KNOWN: Final = frozenset(
    (
        "max_completion_tokens",
        "max_tokens",
        "messages",
        "model",
        "response_format",
        "seed",
        "stop",
        "stream",
        "stream_options",
        "temperature",
        "tools",
    )
)
_ROLES: Final = ("system", "developer", "user", "assistant", "tool")


class OpenAIFormat:
    """Chat completions, whole and as server-sent events."""

    def __init__(self, *, model: str = MODEL, key: str = KEY, refused: Sequence[str] = ()) -> None:
        """`key`: empty to take any. `refused`: parameters for which this model answers 400."""
        self._model: Final = model
        self._key: Final = key
        self.refused: Sequence[str] = refused

    def streams(self, request: HttpRequest) -> bool:
        """As `stream` says."""
        return request.body.get("stream") is True

    def answer(self, request: HttpRequest, script: Script) -> Answer:
        """The reply, or the refusal, of the script."""
        status = script.status
        if script.failure is not None and status == 200:
            status = _STATUS[script.failure]
        if status != 200:
            headers = list(_retry_after(script))
            return _refusal(status, script.message, headers=headers)
        wrong = self._wrong_with(request)
        if wrong is not None:
            return wrong
        if not request.streamed:
            return Answer(_thirds(json.dumps(_completion(self._model, script.reply)).encode()))
        options: dict[str, Any] = request.body.get("stream_options") or {}
        wants_usage = options.get("include_usage") is True
        chunks = _chunks(self._model, script.reply, wants_usage=wants_usage)
        return Answer(
            [*(_event(each) for each in chunks), b"data: [DONE]\n\n"]
            if not script.endless
            else [_event(each) for each in chunks][:-2],
            "text/event-stream; charset=utf-8",
            more=_event(_chunk(self._model, {"content": "and so on "})),
        )

    def _wrong_with(self, request: HttpRequest) -> Answer | None:
        if (request.method, request.path) != ("POST", _PATH):
            return _refusal(404, f"Invalid URL ({request.method} {request.path})")
        if self._key and request.headers.get("authorization") != f"Bearer {self._key}":
            return _refusal(401, "Incorrect API key provided.", code="invalid_api_key")
        body = request.body
        if not body:
            return _refusal(400, "We could not parse the JSON body of your request.")
        model = body.get("model")
        if model != self._model:
            return _refusal(404, f"The model `{model}` does not exist", code="model_not_found")
        for name in body:
            if name not in _KNOWN:
                return _refusal(400, f"Unknown parameter: '{name}'.", param=name)
            if name in self.refused:
                return _refusal(
                    400,
                    f"Unsupported parameter: '{name}' is not supported with this model.",
                    param=name,
                    code="unsupported_parameter",
                )
        return _wrong_with_messages(body.get("messages"))


class OpenAIServer:
    """The server with its format."""

    def __init__(self, wire: OpenAIFormat, http: ScriptedUpstream) -> None:
        self.wire: Final = wire
        self.http: Final = http

    @property
    def base_url(self) -> str:
        """As OPENAI_BASE_URL has it."""
        return f"http://127.0.0.1:{self.http.port}/v1"


class OpenAIUpstream:
    """The server and its provider, as the suite drives them."""

    def __init__(self, server: OpenAIServer) -> None:
        self.server: Final = server
        self.name: Final = "openai"
        # A stop text is an end like any other in this format.
        self.abilities: Final = frozenset(Ability) - {Ability.STOP_TEXTS}
        self.key: Final = KEY

    @property
    def requests(self) -> Sequence[HttpRequest]:
        """What came in, oldest first."""
        return self.server.http.requests

    @asynccontextmanager
    async def provider(
        self, script: Script, limits: Limits = USUAL_LIMITS, *, key: str = KEY
    ) -> AsyncGenerator[Provider]:
        """The provider, each of whose requests carries `script`."""
        async with self._provider(self.server.base_url, script, limits, key) as provider:
            yield provider

    @asynccontextmanager
    async def provider_of_nobody(self) -> AsyncGenerator[Provider]:
        """The provider at a port of nobody's."""
        async with self._provider("http://127.0.0.1:1/v1", Script(), USUAL_LIMITS, KEY) as provider:
            yield provider

    @asynccontextmanager
    async def _provider(
        self, address: str, script: Script, limits: Limits, key: str
    ) -> AsyncGenerator[Provider]:
        async with carrying(script, http_client()) as http:
            yield OpenAIProvider(
                spec(limits),
                model=MODEL,
                address=address,
                key=key,
                http=http,
                timeouts=ProviderTimeouts(
                    limits.connect_seconds, limits.silence_seconds, limits.whole_seconds
                ),
                clock=SystemClock(),
            )


def spec(limits: Limits = USUAL_LIMITS) -> ModelSpec:
    """The model, as the mesh knows it."""
    return ModelSpec(
        name="scripted",
        provider="openai",
        kind=Kind.GENERATOR,
        context_tokens=1_000_000,
        max_output_tokens=limits.max_output_tokens,
        description="A model whose answers are scripted.",
    )


@asynccontextmanager
async def openai_upstream() -> AsyncGenerator[Upstream]:
    """For the suite."""
    async with openai_server() as server:
        yield OpenAIUpstream(server)


@asynccontextmanager
async def openai_server(wire: OpenAIFormat | None = None) -> AsyncGenerator[OpenAIServer]:
    """Serves on a free port."""
    wire = wire or OpenAIFormat()
    async with ScriptedUpstream(wire).running() as http:
        yield OpenAIServer(wire, http)


def _wrong_with_messages(messages: Any) -> Answer | None:
    """A refusal of what the published format does not allow."""
    if not messages:
        return _refusal(400, "[] is too short - 'messages'", param="messages")
    open_calls: set[str] = set()
    for index, message in enumerate(messages):
        at = f"messages.[{index}]"
        role = message.get("role")
        if role not in _ROLES:
            return _refusal(400, f"Invalid value: '{role}'.", param=f"{at}.role")
        if role == "tool":
            if message.get("tool_call_id") not in open_calls:
                return _refusal(
                    400,
                    "messages with role 'tool' must be a response to a preceding message with"
                    " 'tool_calls'.",
                    param=f"{at}.role",
                )
            open_calls.discard(message["tool_call_id"])
            continue
        if open_calls:
            return _refusal(
                400,
                "An assistant message with 'tool_calls' must be followed by tool messages"
                " responding to each 'tool_call_id'.",
                param=at,
            )
        if role != "assistant" and not message.get("content"):
            return _refusal(400, "Invalid value for 'content': null.", param=f"{at}.content")
        open_calls = {each["id"] for each in message.get("tool_calls", ())}
    return None


def _completion(model: str, reply: Reply) -> dict[str, Any]:
    message: dict[str, Any] = {"role": "assistant", "content": "".join(reply.text) or None}
    if reply.stop is StopReason.REFUSED:
        message["refusal"] = None
    if reply.calls:
        message["tool_calls"] = [
            {
                "id": each.call_id,
                "type": "function",
                "function": {"name": each.tool, "arguments": each.arguments},
            }
            for each in reply.calls
        ]
    choice = {
        "index": 0,
        "message": message,
        "logprobs": None,
        "finish_reason": _FINISH[reply.stop],
    }
    completion: dict[str, Any] = {
        "id": "chatcmpl-scripted",
        "object": "chat.completion",
        "created": 1_760_000_000,
        "model": model,
        "choices": [choice],
    }
    if reply.tells_usage:
        completion["usage"] = _usage(reply)
    return completion


def _chunks(model: str, reply: Reply, *, wants_usage: bool) -> Iterator[dict[str, Any]]:
    yield _chunk(model, {"role": "assistant", "content": ""})
    for piece in reply.text:
        yield _chunk(model, {"content": piece})
    for index, call in enumerate(reply.calls):
        yield from _call_chunks(model, index, call)
    yield _chunk(model, {}, finish=_FINISH[reply.stop])
    if wants_usage and reply.tells_usage:
        yield {**_chunk(model, {}), "choices": [], "usage": _usage(reply)}


def _call_chunks(model: str, index: int, call: SaidCall) -> Iterator[dict[str, Any]]:
    """First its name, then its arguments in two parts."""
    head = {"name": call.tool, "arguments": ""}
    yield _chunk(
        model,
        {
            "tool_calls": [
                {"index": index, "id": call.call_id, "type": "function", "function": head}
            ]
        },
    )
    middle = len(call.arguments) // 2
    for part in (call.arguments[:middle], call.arguments[middle:]):
        yield _chunk(model, {"tool_calls": [{"index": index, "function": {"arguments": part}}]})


def _chunk(model: str, delta: dict[str, Any], finish: str | None = None) -> dict[str, Any]:
    return {
        "id": "chatcmpl-scripted",
        "object": "chat.completion.chunk",
        "created": 1_760_000_000,
        "model": model,
        "choices": [{"index": 0, "delta": delta, "logprobs": None, "finish_reason": finish}],
    }


def _usage(reply: Reply) -> dict[str, Any]:
    return {
        "prompt_tokens": reply.input_tokens,
        "completion_tokens": reply.output_tokens,
        "total_tokens": reply.input_tokens + reply.output_tokens,
        "prompt_tokens_details": {"cached_tokens": reply.cached_input_tokens, "audio_tokens": 0},
        "completion_tokens_details": {"reasoning_tokens": 0},
    }


def _event(content: dict[str, Any]) -> bytes:
    return b"data: " + json.dumps(content).encode() + b"\n\n"


def _thirds(content: bytes) -> Sequence[bytes]:
    third = -(-len(content) // 3)
    return [content[start : start + third] for start in range(0, len(content), third)]


def _retry_after(script: Script) -> Iterator[tuple[str, str]]:
    if script.retry_after_seconds is not None:
        yield "retry-after", f"{script.retry_after_seconds:g}"


def _refusal(
    status: int,
    message: str,
    *,
    param: str | None = None,
    code: str | None = None,
    headers: Sequence[tuple[str, str]] = (),
) -> Answer:
    kind = "invalid_request_error" if status < 500 else "server_error"
    error = {"message": message, "type": kind, "param": param, "code": code}
    return Answer([json.dumps({"error": error}).encode()], status=status, headers=headers)
