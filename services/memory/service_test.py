"""Sessions at the contract, and what is not served yet."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, cast

import pytest

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, Part, ToolCall, ToolResult
from agentmesh.memory.v1 import memory_service_pb2 as pb
from meshkit import errors, identity, redis_store
from meshkit.identity import Identity
from meshtest.redis_server import RedisServer
from services.memory.hashing_reasoning import hashing_reasoning
from services.memory.hosted_memory import Client, hosted_memory

pytest_plugins = ["meshtest.fixtures"]

_SESSION = "tenants/acme/sessions/chat"


@pytest.fixture
async def memory(nats_url: str, shared_redis: RedisServer, tmp_path: Path) -> AsyncIterator[Client]:
    async with redis_store.connect(shared_redis.url) as connection:
        await cast(Any, connection).flushall()
    reasoning = hashing_reasoning().registration()
    async with hosted_memory(nats_url, shared_redis.url, tmp_path / "data", reasoning) as client:
        with identity.use(Identity("acme", "user:test")):
            yield client


def _says(text: str) -> Message:
    return Message(role=conversation_pb2.ROLE_USER, parts=[Part(text=text)])


async def _append(memory: Client, *messages: Message, request_id: str = "") -> int:
    request = pb.AppendMessagesRequest(session=_SESSION, messages=messages, request_id=request_id)
    return (await memory.stub.AppendMessages(request, timeout=30)).message_count


async def _context(memory: Client, max_tokens: int = 0) -> pb.GetContextResponse:
    request = pb.GetContextRequest(session=_SESSION, max_tokens=max_tokens)
    return await memory.stub.GetContext(request, timeout=30)


async def test_a_conversation_comes_back_whole(memory: Client) -> None:
    """With tool calls and their results."""
    call = ToolCall(call_id="1", tool="calculator")
    call.arguments.update({"expression": "1+1", "b": [1, {"c": None}]})
    messages = [
        _says("What is 1+1?"),
        Message(role=conversation_pb2.ROLE_ASSISTANT, tool_calls=[call]),
        Message(role=conversation_pb2.ROLE_TOOL, tool_result=ToolResult(call_id="1", text="2")),
    ]
    assert await _append(memory, *messages, request_id="r1") == 3
    assert await _append(memory, *messages, request_id="r1") == 3
    answer = await _context(memory)
    assert list(answer.messages) == messages
    assert answer.omitted_count == 0
    assert answer.tokens == sum((each.ByteSize() + 3) // 4 for each in messages)


async def test_a_context_is_bounded(memory: Client) -> None:
    """4,000 tokens where nothing is said."""
    await _append(memory, *(_says("x" * 3_990) for _ in range(10)))
    answer = await _context(memory)
    assert (len(answer.messages), answer.omitted_count, answer.tokens) == (4, 6, 4_000)
    assert len((await _context(memory, 1_000_000)).messages) == 10


@pytest.mark.parametrize(
    ("request_", "message"),
    [
        (
            pb.AppendMessagesRequest(session="sessions/x", messages=[_says("a")]),
            "session: must look like 'tenants/{tenant}/sessions/{session}'",
        ),
        (pb.AppendMessagesRequest(session=_SESSION), "messages: must be 1 to 100 messages, not 0"),
        (
            pb.AppendMessagesRequest(session=_SESSION, messages=[_says("a")] * 101),
            "messages: must be 1 to 100 messages, not 101",
        ),
        (
            pb.AppendMessagesRequest(
                session=_SESSION, messages=[_says("a"), Message(parts=[Part()])]
            ),
            "messages[1].role: must be ROLE_SYSTEM, ROLE_USER, ROLE_ASSISTANT or ROLE_TOOL",
        ),
        (
            pb.AppendMessagesRequest(
                session=_SESSION, messages=[Message(role=conversation_pb2.ROLE_USER)]
            ),
            "messages[0]: must have parts, tool_calls or a tool_result",
        ),
        (
            pb.AppendMessagesRequest(session=_SESSION, messages=[_says("a")], request_id="r" * 129),
            "request_id: must be at most 128 characters long",
        ),
    ],
)
async def test_a_wrong_append_is_named(
    memory: Client, request_: pb.AppendMessagesRequest, message: str
) -> None:
    """By its field, with what would be right."""
    with pytest.raises(errors.InvalidField) as caught:
        await memory.stub.AppendMessages(request_, timeout=30)
    assert str(caught.value).startswith(message)
    assert len((await _context(memory)).messages) == 0


async def test_messages_that_are_too_large_are_refused(memory: Client) -> None:
    """One MiB goes into one call."""
    with pytest.raises(
        errors.TooLarge, match=r"at most 1048576 go into one call\. Append them in parts\."
    ):
        await _append(memory, *[_says("x" * 600_000)] * 2)


@pytest.mark.parametrize("max_tokens", [-1, 1_000_001])
async def test_a_wrong_budget_is_named(memory: Client, max_tokens: int) -> None:
    """By its field, with what would be right."""
    with pytest.raises(errors.InvalidField) as caught:
        await _context(memory, max_tokens)
    assert str(caught.value) == f"max_tokens: must be 0 to 1000000, not {max_tokens}"


async def test_other_tenants_sessions_are_forbidden(memory: Client) -> None:
    """To read as to write."""
    session = "tenants/umbrella/sessions/chat"
    with pytest.raises(errors.Forbidden):
        await memory.stub.GetContext(pb.GetContextRequest(session=session), timeout=30)
    with pytest.raises(errors.Forbidden):
        await memory.stub.AppendMessages(
            pb.AppendMessagesRequest(session=session, messages=[_says("a")]), timeout=30
        )
    with pytest.raises(errors.Forbidden):
        await memory.stub.Search(pb.SearchRequest(parent="tenants/umbrella", query="x"), timeout=30)


async def test_what_comes_later_says_so(memory: Client) -> None:
    """In a sentence, as unimplemented."""
    stub = memory.stub
    later: list[tuple[Any, object]] = [
        (stub.Remember, pb.RememberRequest()),
        (stub.Recall, pb.RecallRequest()),
        (stub.Forget, pb.ForgetRequest()),
        (stub.PutRecord, pb.PutRecordRequest()),
        (stub.GetRecord, pb.GetRecordRequest()),
        (stub.QueryRecords, pb.QueryRecordsRequest()),
    ]
    for method, request in later:
        with pytest.raises(
            errors.NotImplementedYet,
            match=r"^MemoryService\.\w+ is part of the contract, but this version does not",
        ):
            await method(request, timeout=30)
