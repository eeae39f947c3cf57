"""Test-only: a server that speaks Anthropic's Messages API, as published."""

import json
import re
from collections.abc import AsyncGenerator, Iterator, Sequence
from contextlib import asynccontextmanager
from typing import Any, Final

from meshkit.clock import SystemClock
from services.reasoning.generation import Provider, StopReason
from services.reasoning.http_client import http_client
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.provider_anthropic import AnthropicProvider
from services.reasoning.provider_failures import Failure
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.scripted_upstream import Answer, HttpRequest, ScriptedUpstream, carrying
from services.reasoning.upstream import (
    USUAL_LIMITS,
    Ability,
    Limits,
    Reply,
    SaidCall,
    Script,
    Upstream,
)

MODEL: Final = "claude-scripted"
KEY: Final = "sk-ant-scripted-0123456789"
_PATH: Final = "/v1/messages"
_VERSION: Final = "2026-10-21"
_STOPS: Final = {
    StopReason.END: "end_turn",
    StopReason.STOP_TEXT: "stop_sequence",
    StopReason.TOOL_CALLS: "tool_use",
    StopReason.MAX_TOKENS: "max_tokens",
    StopReason.REFUSED: "refusal",
}
_STATUS: Final = {
    Failure.OVERLOADED: 529,
    Failure.SERVER_ERROR: 500,
    Failure.RATE_LIMITED: 429,
    Failure.UNAUTHORISED: 401,
    Failure.NO_MODEL: 404,
    Failure.REJECTED: 400,
}
_TYPES: Final = {
    400: "invalid_request_error",
    401: "authentication_error",
    402: "billing_error",
    403: "permission_error",
    404: "not_found_error",
    413: "request_too_large",
    429: "rate_limit_error",
    500: "api_error",
    504: "timeout_error",
    529: "overloaded_error",
}
# What a request may hold, of what is published.
_KNOWN: Final = frozenset(
    (
        "max_tokens",
        "messages",
        "model",
        "output_config",
        "stop_sequences",
        "stream",
        "system",
        "tool_choice",
        "tools",
    )
)
_NAME: Final = re.compile(r"[a-zA-Z0-9_-]{1,128}")
_ID: Final = re.compile(r"[a-zA-Z0-9_-]+")


class AnthropicFormat:
    """Messages, whole and as server-sent events."""

    def __init__(self, *, refused: Sequence[str] = ()) -> None:
        """`refused`: parameters for which this model answers 400."""
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
            return _refusal(status, script.message, headers=list(_retry_after(script)))
        wrong = self._wrong_with(request)
        if wrong is not None:
            return wrong
        if not request.streamed:
            return Answer(_thirds(json.dumps(_message(script.reply)).encode()))
        events = [_event(each) for each in _events(script.reply)]
        return Answer(
            events if not script.endless else events[:-3],
            "text/event-stream; charset=utf-8",
            more=_event(_text_delta(0, "and so on ")),
        )

    def _wrong_with(self, request: HttpRequest) -> Answer | None:
        if (request.method, request.path) != ("POST", _PATH):
            return _refusal(404, "Not found")
        if request.headers.get("authorization") != f"Bearer {KEY}":
            return _refusal(401, "invalid bearer token")
        if request.headers.get("anthropic-version") != _VERSION:
            return _refusal(400, "anthropic-version: header is required")
        body = request.body
        if body.get("model") != MODEL:
            return _refusal(404, f"model: {body.get('model')}")
        for name in body:
            if name not in _KNOWN:
                return _refusal(400, f"{name}: Extra inputs are not permitted")
            if name in self.refused:
                return _refusal(400, f"{name}: not supported by this model.")
        wrong = _wrong_with(body)
        return _refusal(400, wrong) if wrong else None


class AnthropicServer:
    """The server with its format."""

    def __init__(self, wire: AnthropicFormat, http: ScriptedUpstream) -> None:
        self.wire: Final = wire
        self.http: Final = http

    @property
    def base_url(self) -> str:
        """As ANTHROPIC_BASE_URL has it."""
        return f"http://127.0.0.1:{self.http.port}"


class AnthropicUpstream:
    """The server and its provider, as the suite drives them."""

    def __init__(self, server: AnthropicServer) -> None:
        self.server: Final = server
        self.name: Final = "anthropic"
        self.abilities: Final = frozenset(Ability)
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
        async with self._provider("http://127.0.0.1:1", Script(), USUAL_LIMITS, KEY) as provider:
            yield provider

    @asynccontextmanager
    async def _provider(
        self, address: str, script: Script, limits: Limits, key: str
    ) -> AsyncGenerator[Provider]:
        async with carrying(script, http_client()) as http:
            yield AnthropicProvider(
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
        provider="anthropic",
        kind=Kind.GENERATOR,
        context_tokens=1_000_000,
        max_output_tokens=limits.max_output_tokens,
        description="A model whose answers are scripted.",
    )


@asynccontextmanager
async def anthropic_upstream() -> AsyncGenerator[Upstream]:
    """For the suite."""
    async with anthropic_server() as server:
        yield AnthropicUpstream(server)


@asynccontextmanager
async def anthropic_server(
    wire: AnthropicFormat | None = None,
) -> AsyncGenerator[AnthropicServer]:
    """Serves on a free port."""
    wire = wire or AnthropicFormat()
    async with ScriptedUpstream(wire).running() as http:
        yield AnthropicServer(wire, http)


def _wrong_with(body: dict[str, Any]) -> str:
    """What the published format does not allow; empty where all is well."""
    if not isinstance(body.get("max_tokens"), int) or body["max_tokens"] < 1:
        return "max_tokens: Field required"
    if any(not stop.strip() for stop in body.get("stop_sequences", ())):
        return "stop_sequences: each stop sequence must contain non-whitespace"
    tools = {tool.get("name") for tool in body.get("tools", ())}
    for index, tool in enumerate(body.get("tools", ())):
        if not _NAME.fullmatch(tool.get("name", "")):
            return f"tools.{index}.name: String should match pattern '^[a-zA-Z0-9_-]{{1,128}}$'"
        if tool.get("input_schema", {}).get("type") != "object":
            return f"tools.{index}.input_schema.type: Field required"
    if len(tools) != len(body.get("tools", ())):
        return "tools: Tool names must be unique."
    choice = body.get("tool_choice", {})
    if choice and not tools:
        return "tool_choice may only be specified while providing tools"
    chosen = choice.get("name")
    if chosen is not None and chosen not in tools:
        return f"tool_choice: Tool '{chosen}' not found in provided tools"
    for index, block in enumerate(body.get("system", ())):
        if not block.get("text", "").strip():
            return f"system.{index}: text content blocks must contain non-whitespace text"
    return _wrong_with_turns(body.get("messages", ()), tools)


def _wrong_with_turns(turns: Sequence[dict[str, Any]], tools: set[Any]) -> str:
    if not turns:
        return "messages: at least one message is required"
    open_calls: set[str] = set()
    all_calls: set[str] = set()
    for index, turn in enumerate(turns):
        at = f"messages.{index}"
        if turn.get("role") != ("assistant" if index % 2 else "user"):
            return f'{at}: roles must alternate between "user" and "assistant"'
        results = 0
        for number, block in enumerate(turn.get("content", ())):
            kind = block.get("type")
            if kind == "text" and not block.get("text", "").strip():
                return (
                    f"{at}.content.{number}: text content blocks must contain non-whitespace text"
                )
            if kind == "tool_result":
                results += 1
                if number >= results or block.get("tool_use_id") not in open_calls:
                    return (
                        f"{at}.content.{number}: unexpected `tool_use_id` in `tool_result` blocks"
                    )
                open_calls.discard(block["tool_use_id"])
        if not turn.get("content"):
            return f"{at}: all messages must have non-empty content"
        if open_calls:
            return f"{at}: `tool_use` ids were found without `tool_result` blocks: {open_calls}"
        calls = [each for each in turn["content"] if each.get("type") == "tool_use"]
        if calls and not tools:
            return "Requests which include `tool_use` blocks must define tools"
        open_calls = {each["id"] for each in calls}
        if len(open_calls) < len(calls) or open_calls & all_calls:
            return f"{at}: `tool_use` ids must be unique"
        all_calls |= open_calls
        if any(not _ID.fullmatch(each) for each in open_calls):
            return f"{at}: tool_use.id: String should match pattern '^[a-zA-Z0-9_-]+$'"
    if len(turns) % 2 == 0:
        return "This model does not support assistant message prefill."
    return ""


def _message(reply: Reply) -> dict[str, Any]:
    blocks: list[dict[str, Any]] = []
    if reply.text:
        blocks.append({"type": "text", "text": "".join(reply.text), "citations": None})
    blocks += [_call(each, _input(each.arguments)) for each in reply.calls]
    message = {
        **_head(),
        "content": blocks,
        "stop_reason": _STOPS[reply.stop],
        "stop_sequence": None,
    }
    if reply.tells_usage:
        message["usage"] = {**_input_usage(reply), "output_tokens": reply.output_tokens}
    return message


def _input(arguments: str) -> Any:
    """Whole answers hold an object; what is none, this server hands on as the text it is."""
    try:
        return json.loads(arguments or "{}")
    except ValueError:
        return arguments


def _events(reply: Reply) -> Iterator[dict[str, Any]]:
    head: dict[str, Any] = {**_head(), "content": [], "stop_reason": None, "stop_sequence": None}
    if reply.tells_usage:
        head["usage"] = {**_input_usage(reply), "output_tokens": 1}
    yield {"type": "message_start", "message": head}
    blocks = [("text", reply.text)] if reply.text else []
    index = 0
    for index, (_, pieces) in enumerate(blocks):
        yield _started(index, {"type": "text", "text": ""})
        yield {"type": "ping"}
        for piece in pieces:
            yield _text_delta(index, piece)
        yield {"type": "content_block_stop", "index": index}
    for index, call in enumerate(reply.calls, len(blocks)):
        yield _started(index, _call(call, {}))
        middle = len(call.arguments) // 2
        for part in ("", call.arguments[:middle], call.arguments[middle:]):
            delta = {"type": "input_json_delta", "partial_json": part}
            yield {"type": "content_block_delta", "index": index, "delta": delta}
        yield {"type": "content_block_stop", "index": index}
    end: dict[str, Any] = {
        "type": "message_delta",
        "delta": {"stop_reason": _STOPS[reply.stop], "stop_sequence": None},
    }
    if reply.tells_usage:
        end["usage"] = {"output_tokens": reply.output_tokens}
    yield end
    yield {"type": "message_stop"}


def _head() -> dict[str, Any]:
    return {"id": "msg_scripted", "type": "message", "role": "assistant", "model": MODEL}


def _started(index: int, block: dict[str, Any]) -> dict[str, Any]:
    return {"type": "content_block_start", "index": index, "content_block": block}


def _text_delta(index: int, piece: str) -> dict[str, Any]:
    delta = {"type": "text_delta", "text": piece}
    return {"type": "content_block_delta", "index": index, "delta": delta}


def _call(call: SaidCall, given: Any) -> dict[str, Any]:
    return {"type": "tool_use", "id": call.call_id, "name": call.tool, "input": given}


def _input_usage(reply: Reply) -> dict[str, Any]:
    """What was cached is not among `input_tokens` here."""
    return {
        "input_tokens": reply.input_tokens - reply.cached_input_tokens,
        "cache_creation_input_tokens": 0,
        "cache_read_input_tokens": reply.cached_input_tokens,
    }


def _event(content: dict[str, Any]) -> bytes:
    return f"event: {content['type']}\ndata: {json.dumps(content)}\n\n".encode()


def _thirds(content: bytes) -> Sequence[bytes]:
    third = -(-len(content) // 3)
    return [content[start : start + third] for start in range(0, len(content), third)]


def _retry_after(script: Script) -> Iterator[tuple[str, str]]:
    if script.retry_after_seconds is not None:
        yield "retry-after", f"{script.retry_after_seconds:g}"


def _refusal(status: int, message: str, *, headers: Sequence[tuple[str, str]] = ()) -> Answer:
    kind = _TYPES.get(status, "api_error" if status >= 500 else "invalid_request_error")
    body = {
        "type": "error",
        "error": {"type": kind, "message": message},
        "request_id": "req_scripted",
    }
    return Answer([json.dumps(body).encode()], status=status, headers=headers)
