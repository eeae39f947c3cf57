"""Tests of the server and the channels, against each other over a real connection."""

import asyncio
import io
import json
from collections.abc import AsyncIterator
from typing import Any

import grpc
import pytest
from google.protobuf.wrappers_pb2 import StringValue

from meshkit import constants, deadline, errors, identity, log, trace
from meshkit.client import Channels
from meshkit.identity import Identity
from meshkit.server import MeshServer
from meshtest import echo
from meshtest.eventually import eventually
from meshtest.proxy import FaultProxy
from meshtest.serving import serving


def _text(value: str) -> StringValue:
    return StringValue(value=value)


async def _letters(text: str) -> AsyncIterator[StringValue]:
    for letter in text:
        yield _text(letter)


async def test_all_four_kinds_of_call_pass() -> None:
    """Unary and streaming calls give the handlers' answers."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        stub = echo.EchoStub(channels.get("echo"))
        assert (await stub.Say(_text("a"), timeout=60)).value == "a"
        assert [each.value async for each in stub.Repeat(_text("abc"), timeout=60)] == [*"abc"]
        assert (await stub.Join(_letters("abc"), timeout=60)).value == "abc"
        assert [each.value async for each in stub.Talk(_letters("abc"), timeout=60)] == [*"abc"]


async def test_a_call_without_a_timeout_is_refused_before_it_is_sent() -> None:
    """The client wants a timeout for every call, streaming ones included."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        stub = echo.EchoStub(channels.get("echo"))
        with pytest.raises(errors.DeadlineRequired, match="/Say was called without a timeout"):
            await stub.Say(_text("a"))
        with pytest.raises(errors.DeadlineRequired, match="/Repeat was called without"):
            stub.Repeat(_text("a"))


class _Failing(echo.EchoServicer):
    def __init__(self, error: BaseException) -> None:
        self._error = error

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        raise self._error

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield request
        raise self._error


_EXHAUSTED = errors.BudgetExhausted(
    "tenants/a/budgets/b is spent.",
    metadata={"resets_at": "2026-01-01T00:00:00Z"},
    retry_after_seconds=1.5,
    quota=[errors.QuotaViolation("tenants/a/budgets/b", "10 of 10")],
)


async def test_an_error_arrives_as_the_same_class_with_its_details() -> None:
    """A unary call raises what the handler raised."""
    async with serving([echo.registration(_Failing(_EXHAUSTED))]) as channels:
        with pytest.raises(errors.BudgetExhausted) as caught:
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
    assert caught.value.message == "tenants/a/budgets/b is spent."
    assert caught.value.metadata == {"resets_at": "2026-01-01T00:00:00Z"}
    assert caught.value.retry_after_seconds == 1.5
    assert caught.value.quota == _EXHAUSTED.quota


async def test_an_error_amid_a_stream_arrives_after_the_answers() -> None:
    """A stream gives what was answered, and then raises what the handler raised."""
    async with serving([echo.registration(_Failing(_EXHAUSTED))]) as channels:
        answers = echo.EchoStub(channels.get("echo")).Repeat(_text("a"), timeout=60)
        assert (await anext(answers)).value == "a"
        with pytest.raises(errors.BudgetExhausted):
            await anext(answers)


async def test_an_exception_becomes_internal_with_an_id_that_the_log_has() -> None:
    """What is no MeshError says nothing to the caller and everything to the log."""
    stream = io.StringIO()
    failing = _Failing(ValueError("secret detail"))
    async with serving([echo.registration(failing)], to=log.get("test", stream=stream)) as channels:
        with pytest.raises(errors.Internal) as caught:
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
    error_id = caught.value.metadata["error_id"]
    assert caught.value.message == (
        f"Agentmesh failed inside. The logs have the cause under error id {error_id}."
    )
    fault = next(
        line for line in map(json.loads, stream.getvalue().splitlines()) if line["event"] == "fault"
    )
    assert fault["error_id"] == error_id
    assert "ValueError: secret detail" in fault["exception"]


async def test_a_handler_whose_helper_was_cancelled_has_failed() -> None:
    """Nobody cancelled the call, and its caller does not wait for the deadline."""
    async with serving([echo.registration(_Failing(asyncio.CancelledError()))]) as channels:
        with pytest.raises(errors.Internal):
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
        with pytest.raises(errors.Internal):
            _ = [
                each
                async for each in echo.EchoStub(channels.get("echo")).Repeat(_text("a"), timeout=60)
            ]


async def test_every_call_leaves_one_line_in_the_log() -> None:
    """The line has method, code, reason, tenant, duration and peer, and no payload."""
    stream = io.StringIO()
    async with serving(
        [echo.registration(_Failing(errors.TaskNotFound("no")))],
        to=log.get("test", stream=stream),
    ) as channels:
        with identity.use(Identity("ada", "x")), pytest.raises(errors.TaskNotFound):
            await echo.EchoStub(channels.get("echo")).Say(_text("payload"), timeout=60)
    lines = [
        each for each in map(json.loads, stream.getvalue().splitlines()) if each["event"] == "rpc"
    ]
    assert len(lines) == 1
    line = lines[0]
    assert line["duration_ms"] > 0
    assert line["peer"].startswith("ipv4:127.0.0.1:")
    assert {key: line[key] for key in ("method", "code", "reason", "tenant")} == {
        "method": "/meshtest.v1.EchoService/Say",
        "code": "NOT_FOUND",
        "reason": "TASK_NOT_FOUND",
        "tenant": "ada",
    }
    assert "payload" not in stream.getvalue()


class _Aborting(echo.EchoServicer):
    async def Say(self, request: StringValue, context: Any) -> StringValue:
        await context.abort(grpc.StatusCode.OUT_OF_RANGE, "far")
        return request


async def test_the_line_of_a_call_that_its_handler_ended_has_the_name_of_its_code() -> None:
    """As of any other call."""
    stream = io.StringIO()
    aborting = [echo.registration(_Aborting())]
    async with serving(aborting, to=log.get("test", stream=stream)) as channels:
        with pytest.raises(errors.MeshError, match="far"):
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
    (line,) = [
        each for each in map(json.loads, stream.getvalue().splitlines()) if each["event"] == "rpc"
    ]
    assert line["code"] == "OUT_OF_RANGE"


class _Witness(echo.EchoServicer):
    def __init__(self) -> None:
        self.identity: Identity | None = None
        self.remaining: float | None = None
        self.span: trace.Span | None = None

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        self.identity = identity.current()
        self.remaining = deadline.remaining_seconds()
        self.span = trace.current()
        return request


async def test_identity_deadline_and_trace_travel_with_the_call() -> None:
    """The handler sees the caller's tenant, its name, what is left of its time, and its trace."""
    witness = _Witness()
    async with serving([echo.registration(witness)], caller="service:tool") as channels:
        span = trace.child()
        with identity.use(Identity("ada", "user:1")), trace.use(span), deadline.limit(2):
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
    assert witness.identity == Identity("ada", "service:tool")
    assert witness.remaining is not None
    assert 1 < witness.remaining < 2
    assert witness.span is not None
    assert witness.span.trace_id == span.trace_id
    assert witness.span.span_id != span.span_id


async def test_without_a_tenant_a_strict_server_refuses() -> None:
    """Where no default is set, a call without a tenant is UNAUTHENTICATED."""
    async with serving([echo.registration(echo.EchoServicer())], default_tenant=None) as channels:
        with pytest.raises(errors.Unauthenticated, match="names no tenant"):
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)


class _Slow(echo.EchoServicer):
    def __init__(self) -> None:
        self.entered = asyncio.Event()
        self.cancelled = asyncio.Event()
        self.release = asyncio.Event()

    async def Say(self, request: StringValue, context: Any) -> StringValue:
        self.entered.set()
        try:
            await self.release.wait()
        except asyncio.CancelledError:
            self.cancelled.set()
            raise
        return request

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        yield await self.Say(request, context)


async def test_a_call_that_takes_too_long_names_who_was_slow() -> None:
    """The caller learns who did not answer in time; the handler is cancelled."""
    slow = _Slow()
    async with serving([echo.registration(slow)]) as channels:
        with pytest.raises(
            errors.DeadlineExceeded, match=r"echo did not answer .*/Say within 0\.5 seconds"
        ):
            await echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=0.5)
        # A busy machine may not have begun with it.
        await eventually(lambda: slow.cancelled.is_set() or not slow.entered.is_set())


async def test_a_cancelled_caller_cancels_the_handler() -> None:
    """Cancelling the caller's task ends the handler, and raises CancelledError in the caller."""
    slow = _Slow()
    async with serving([echo.registration(slow)]) as channels:
        call = asyncio.ensure_future(
            echo.EchoStub(channels.get("echo")).Say(_text("a"), timeout=60)
        )
        await asyncio.wait_for(slow.entered.wait(), 60)
        call.cancel()
        with pytest.raises(asyncio.CancelledError):
            await call
        await asyncio.wait_for(slow.cancelled.wait(), 60)


async def test_a_cancelled_stream_cancels_the_handler() -> None:
    """Cancelling the answers ends the handler."""
    slow = _Slow()
    async with serving([echo.registration(slow)]) as channels:
        answers = echo.EchoStub(channels.get("echo")).Repeat(_text("a"), timeout=60)
        reading = asyncio.ensure_future(anext(answers))
        await asyncio.wait_for(slow.entered.wait(), 60)
        answers.cancel()
        with pytest.raises(asyncio.CancelledError):
            await reading
        await asyncio.wait_for(slow.cancelled.wait(), 60)


class _Trickle(echo.EchoServicer):
    """Answers letter by letter, and takes its time."""

    async def Repeat(self, request: StringValue, context: Any) -> AsyncIterator[StringValue]:
        for letter in request.value:
            await asyncio.sleep(0.002)
            yield _text(letter)


async def test_a_broken_connection_harms_nobody_but_its_calls() -> None:
    """A server whose client is gone in the midst of streams goes on serving others."""
    async with serving([echo.registration(_Trickle())]) as channels:
        port = int(channels.address("echo").rpartition(":")[2])
        async with FaultProxy(port) as proxy:
            targets = {"echo": f"127.0.0.1:{proxy.port}"}
            for _ in range(10):
                async with Channels(targets, caller="service:x") as torn:
                    stub = echo.EchoStub(torn.get("echo"))
                    streams = [stub.Repeat(_text("a" * 100_000), timeout=60) for _ in range(40)]
                    for stream in streams:
                        await anext(aiter(stream))
                    proxy.cut()
                    for stream in streams:
                        with pytest.raises(errors.DependencyUnavailable):
                            async for _ in stream:
                                pass
        whole = [
            each
            async for each in echo.EchoStub(channels.get("echo")).Repeat(_text("a"), timeout=60)
        ]
    assert whole == [_text("a")]


async def test_nobody_there_is_unavailable_with_the_name() -> None:
    """A server that cannot be reached is named."""
    async with Channels({"memory": "127.0.0.1:1"}, caller="service:x") as channels:
        stub = echo.EchoStub(channels.get("memory"))
        with pytest.raises(
            errors.DependencyUnavailable, match=r"^Failed to reach memory: "
        ) as caught:
            await stub.Say(_text("a"), timeout=60)
    assert caught.value.metadata == {"dependency": "memory"}


async def test_a_message_over_the_limit_is_too_large() -> None:
    """Over 8 MiB a request is refused as too large, which is never worth a retry."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        with pytest.raises(errors.TooLarge) as caught:
            await echo.EchoStub(channels.get("echo")).Say(_text("x" * (9 << 20)), timeout=60)
    assert not errors.is_retryable(caught.value)


async def test_a_foreign_client_is_told_how_much_is_too_much() -> None:
    """Whatever client it is, a request of 10 MB gets a reason, the limit and what to do."""
    async with serving([echo.registration(echo.EchoServicer())]) as channels:
        address = channels.address("echo")
        async with grpc.aio.insecure_channel(address) as channel:
            with pytest.raises(grpc.aio.AioRpcError) as caught:
                await echo.EchoStub(channel).Say(_text("x" * 10_000_000), timeout=60)
    error = errors.from_rpc_error(caught.value)
    assert isinstance(error, errors.TooLarge)
    assert str(error) == (
        "The request is 10,000,005 bytes; the limit is 8,388,608."
        " Send it in parts, or large texts as documents."
    )


async def test_what_a_servicer_leaves_out_is_unimplemented() -> None:
    """A method that only the generated base has answers UNIMPLEMENTED with a sentence."""

    def unserved(self: object, request: StringValue, context: Any) -> None: ...

    unserved.__module__ = "meshtest.v1.echo_pb2_grpc"
    partial = type("Partial", (echo.EchoServicer,), {"Say": unserved, "Repeat": unserved})
    async with serving([echo.registration(partial())]) as channels:
        stub = echo.EchoStub(channels.get("echo"))
        with pytest.raises(errors.NotImplementedYet) as caught:
            await stub.Say(_text("a"), timeout=60)
        assert caught.value.message == (
            "EchoService.Say is part of the contract, but this version does not serve it."
        )
        with pytest.raises(errors.NotImplementedYet):
            await anext(stub.Repeat(_text("a"), timeout=60))


async def test_a_handler_that_would_block_the_loop_is_refused_at_the_start() -> None:
    """A handler that is a plain function is a mistake, told before the server starts."""

    def say(self: object, request: StringValue, context: Any) -> None: ...

    blocking = type("Blocking", (echo.EchoServicer,), {"Say": say})
    with pytest.raises(TypeError, match="Say must be a coroutine function"):
        async with serving([echo.registration(blocking())]):
            pass


async def test_two_servers_cannot_share_a_port() -> None:
    """A second server on the same port fails with a clear line."""
    quiet = log.get("test", stream=io.StringIO())

    def make(address: str) -> MeshServer:
        return MeshServer(
            name="t", address=address, registrations=[], log=quiet, default_tenant=None
        )

    first = make("127.0.0.1:0")
    task = asyncio.create_task(first.serve())
    await first.started()
    with pytest.raises(errors.DependencyUnavailable, match=r"^Failed to listen on 127\.0\.0\.1:"):
        await make(f"127.0.0.1:{first.port}").serve()
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task


def test_clients_ping_less_often_than_servers_allow() -> None:
    """A client that pings more often than the server's minimum would be cut off."""
    assert constants.CLIENT_KEEPALIVE_SECONDS > constants.SERVER_MINIMUM_PING_SECONDS
