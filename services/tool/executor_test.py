"""Execution: once a key, within its time, with failures as answers."""

import asyncio
import io
import json
from collections.abc import AsyncIterator, Awaitable, Callable
from typing import Any

import pytest
from redis.asyncio import Redis

from meshkit import deadline, log, redis_store
from meshkit.errors import (
    DeadlineExceeded,
    DependencyUnavailable,
    InvalidField,
    OutcomeUnknown,
    ToolNotFound,
)
from meshkit.json_struct import to_struct
from meshkit.unbroken import Unbroken
from meshtest.clock import FakeClock
from meshtest.eventually import eventually
from meshtest.ids import FakeIds
from meshtest.redis_server import RedisServer
from services.tool.call_record import CallKey
from services.tool.call_record_redis import RedisCallRecords
from services.tool.executor import Execution, ToolExecutor, ToolRequest
from services.tool.tool import Answer, Effect, Invocation, Json, ToolFault, ToolSpec

pytest_plugins = ["meshtest.fixtures"]

_SCHEMA: dict[str, Json] = {
    "type": "object",
    "properties": {"amount": {"type": "integer"}},
    "additionalProperties": False,
}


class _Ledger:
    """A tool that counts how often it was executed, and then does what the test says."""

    def __init__(
        self, effect: Effect, then: Callable[[Invocation], Awaitable[Answer]] | None = None
    ) -> None:
        self.spec = ToolSpec("ledger", "Books an amount.", _SCHEMA, effect, timeout_seconds=10.0)
        self.executions = 0
        self._then = then

    async def execute(self, invocation: Invocation) -> Answer:
        """Counts."""
        self.executions += 1
        if self._then:
            return await self._then(invocation)
        return Answer(f"Booked number {self.executions}.", data={"number": self.executions})


class _Bench:
    """Executors on one Redis, each as if it were a process of its own."""

    def __init__(self, store: Redis, clock: FakeClock) -> None:
        self.store = store
        self.clock = clock
        self.unbroken = Unbroken()
        self.lines = io.StringIO()

    def executor(self, tool: _Ledger, records: RedisCallRecords | None = None) -> ToolExecutor:
        """An executor with this tool."""
        return ToolExecutor(
            [tool],
            records=records or RedisCallRecords(self.store, self.clock, keep_seconds=604_800),
            unbroken=self.unbroken,
            clock=self.clock,
            ids=FakeIds(),
            log=log.get("tool", stream=self.lines, pretty=False),
        )


@pytest.fixture
async def bench(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[_Bench]:
    """What executors need."""
    async with redis_store.connect(redis_server.url) as store:
        yield _Bench(store, clock)


def _request(key: str = "t/1", amount: int = 5, tenant: str = "acme") -> ToolRequest:
    return ToolRequest(tenant, "ledger", to_struct({"amount": amount}), key)


async def _hang(_: Invocation) -> Answer:
    await asyncio.Event().wait()
    raise AssertionError


@pytest.mark.parametrize("effect", [Effect.IDEMPOTENT, Effect.UNSAFE])
async def test_repeat_of_a_key_is_answered_from_the_record(bench: _Bench, effect: Effect) -> None:
    """The effect happens once, over processes; the record has text, data and all."""
    tool = _Ledger(effect)
    first = await bench.executor(tool).execute(_request())
    again = await bench.executor(tool).execute(_request())
    answer = Answer("Booked number 1.", data={"number": 1})
    assert (first.answer, first.replayed) == (answer, False)
    assert again == Execution(answer, replayed=True, duration_seconds=0.0)
    assert tool.executions == 1
    assert await bench.store.ttl("tool:{acme}:call:t/1") in (604_799, 604_800)


async def test_keys_of_tenants_do_not_meet(bench: _Bench) -> None:
    """The same key of another tenant is another call."""
    tool = _Ledger(Effect.UNSAFE)
    executor = bench.executor(tool)
    assert not (await executor.execute(_request())).replayed
    assert not (await executor.execute(_request(tenant="other"))).replayed


async def test_reading_tool_keeps_no_record(bench: _Bench) -> None:
    """A tool that only reads is executed each time, key or not, and Redis is left alone."""
    tool = _Ledger(Effect.READ_ONLY)
    executor = bench.executor(tool)
    assert not (await executor.execute(_request())).replayed
    assert not (await executor.execute(_request())).replayed
    assert (await executor.execute(_request(key=""))).answer.text == "Booked number 3."
    assert await _redis(bench).dbsize() == 0


async def test_key_is_required_where_something_changes(bench: _Bench) -> None:
    """Without a key nothing is executed."""
    tool = _Ledger(Effect.IDEMPOTENT)
    with pytest.raises(InvalidField) as caught:
        await bench.executor(tool).execute(_request(key=""))
    assert [(each.field, each.description) for each in caught.value.violations] == [
        (
            "idempotency_key",
            "is required, since ledger changes something; keep it the same across attempts",
        )
    ]
    assert tool.executions == 0


async def test_key_of_another_call_is_refused(bench: _Bench) -> None:
    """A key that was used with other arguments is a mistake of the caller."""
    tool = _Ledger(Effect.IDEMPOTENT)
    executor = bench.executor(tool)
    await executor.execute(_request(amount=5))
    with pytest.raises(InvalidField) as caught:
        await executor.execute(_request(amount=6))
    assert caught.value.violations[0].description == (
        "was used for another tool or with other arguments; give each call its own"
    )


async def test_parallel_repeats_wait_for_the_first(bench: _Bench) -> None:
    """A repeat that comes while the first is executed gets the first one's answer."""
    go_on = asyncio.Event()

    async def wait(_: Invocation) -> Answer:
        await go_on.wait()
        return Answer("Done.")

    tool = _Ledger(Effect.UNSAFE, wait)
    first = asyncio.create_task(bench.executor(tool).execute(_request()))
    await eventually(lambda: tool.executions == 1)
    again = asyncio.create_task(bench.executor(tool).execute(_request()))
    await eventually(lambda: bench.clock.sleeping == 1)
    go_on.set()
    assert not (await first).replayed
    await _let_pass(bench, again)
    assert (await again).replayed
    assert tool.executions == 1


async def _let_pass(bench: _Bench, task: asyncio.Task[Execution]) -> None:
    """Lets time pass until the task is done, however often it looks at the clock until then."""

    async def pass_a_second() -> bool:
        await bench.clock.advance(1.0)
        return task.done()

    await eventually(pass_a_second)


async def _die(bench: _Bench, tool: _Ledger) -> None:
    """Starts a call in a process that dies without leaving a word."""
    task = asyncio.create_task(bench.executor(tool).execute(_request()))
    await eventually(lambda: tool.executions == 1)
    record = await _record(bench)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    # As it was when the process died.
    await _redis(bench).hset("tool:{acme}:call:t/1", mapping=record)


def _redis(bench: _Bench) -> Any:
    return bench.store


async def _record(bench: _Bench) -> dict[bytes, bytes]:
    return await _redis(bench).hgetall("tool:{acme}:call:t/1")


async def test_unknown_outcome_of_an_unsafe_tool_is_never_repeated(bench: _Bench) -> None:
    """When a process died in the middle, repeats wait for its lease and then say so."""
    dying, tool = _Ledger(Effect.UNSAFE, _hang), _Ledger(Effect.UNSAFE)
    await _die(bench, dying)
    again = asyncio.create_task(bench.executor(tool).execute(_request()))
    await _let_pass(bench, again)
    with pytest.raises(OutcomeUnknown) as caught:
        await again
    assert caught.value.message == (
        "An execution of ledger ended without an answer (whoever executed it is gone). Nobody"
        " knows whether it was done, and it must not be repeated blindly: look, and decide."
    )
    with pytest.raises(OutcomeUnknown):
        await bench.executor(tool).execute(_request())
    assert tool.executions == 0


async def test_unknown_outcome_of_an_idempotent_tool_is_repeated(bench: _Bench) -> None:
    """When a process died in the middle, a repeat executes again, and that is recorded."""
    dying, tool = _Ledger(Effect.IDEMPOTENT, _hang), _Ledger(Effect.IDEMPOTENT)
    await _die(bench, dying)
    await bench.clock.advance(20)
    executor = bench.executor(tool)
    assert not (await executor.execute(_request())).replayed
    assert (await executor.execute(_request())).replayed
    assert tool.executions == 1


async def test_cancelled_call_is_interrupted_at_once(bench: _Bench) -> None:
    """Who is cancelled gives the lease back: repeats need not wait for its end."""
    cancelled, tool = _Ledger(Effect.IDEMPOTENT, _hang), _Ledger(Effect.IDEMPOTENT)
    task = asyncio.create_task(bench.executor(cancelled).execute(_request()))
    await eventually(lambda: cancelled.executions == 1)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    assert not (await bench.executor(tool).execute(_request())).replayed


class _SlowRecords(RedisCallRecords):
    """Their store takes its time over one kind of word."""

    def __init__(self, bench: _Bench, slow: str) -> None:
        super().__init__(bench.store, bench.clock, keep_seconds=604_800)
        self._slow = slow
        self.is_asked = asyncio.Event()
        self.may_answer = asyncio.Event()

    async def _run(self, call: CallKey, *arguments: str | bytes | int) -> Any:
        answer = await super()._run(call, *arguments)
        if arguments[0] == self._slow:
            self.is_asked.set()
            await self.may_answer.wait()
        return answer


@pytest.mark.parametrize(
    ("slow", "is_done"), [("begin", False), ("finish", True)], ids=["begun", "done"]
)
async def test_whose_caller_leaves_while_it_is_recorded(
    bench: _Bench, slow: str, is_done: bool
) -> None:
    """What was done is on record, and what was not leaves none: nobody waits, nobody wonders."""
    records = _SlowRecords(bench, slow)
    tool = _Ledger(Effect.UNSAFE)
    task = asyncio.create_task(bench.executor(tool, records).execute(_request()))
    await asyncio.wait_for(records.is_asked.wait(), 60)
    task.cancel()
    with pytest.raises(asyncio.CancelledError):
        await task
    records.may_answer.set()
    await bench.unbroken.close()
    execution = await bench.executor(tool).execute(_request())
    assert (execution.replayed, tool.executions) == (is_done, 1)


async def test_fault_of_a_tool_is_its_answer_and_recorded(bench: _Bench) -> None:
    """A tool that cannot do it says why; a repeat hears the same."""

    async def refuse(_: Invocation) -> Answer:
        raise ToolFault("The account is closed.")

    tool = _Ledger(Effect.UNSAFE, refuse)
    executor = bench.executor(tool)
    assert (await executor.execute(_request())).answer == Answer("The account is closed.", True)
    again = await executor.execute(_request())
    assert (again.answer, again.replayed) == (Answer("The account is closed.", True), True)


@pytest.mark.parametrize("error", [RuntimeError("secret"), TimeoutError("secret")])
async def test_crash_of_a_tool_is_an_answer_without_its_trace(
    bench: _Bench, error: Exception
) -> None:
    """The model hears that the tool failed; the log alone has the reason."""

    async def crash(_: Invocation) -> Answer:
        raise error

    execution = await bench.executor(_Ledger(Effect.READ_ONLY, crash)).execute(_request())
    assert execution.answer == Answer(
        "The tool ledger failed by a fault of its own; the log has it as"
        " 00000000000000000000000001.",
        is_error=True,
    )
    line = json.loads(bench.lines.getvalue())
    assert (line["event"], line["tool"]) == ("tool.crashed", "ledger")
    assert line["error_id"] == "00000000000000000000000001"
    assert "secret" in line["exception"]


async def test_tool_is_stopped_at_the_callers_deadline(bench: _Bench) -> None:
    """The time limit of the call wins where it is shorter than the tool's own."""
    executor = bench.executor(_Ledger(Effect.READ_ONLY, _hang))
    with deadline.limit(0.5), pytest.raises(DeadlineExceeded) as caught:
        await executor.execute(_request())
    assert caught.value.metadata == {"limit": "call"}


async def test_unsafe_tool_that_is_stopped_has_an_unknown_outcome(bench: _Bench) -> None:
    """Out of time, an unsafe tool may have done it or not; the repeat hears so at once."""
    executor = bench.executor(_Ledger(Effect.UNSAFE, _hang))
    with deadline.limit(0.5), pytest.raises(OutcomeUnknown) as caught:
        await executor.execute(_request())
    assert caught.value.metadata == {"tool": "ledger"}
    with pytest.raises(OutcomeUnknown):
        await executor.execute(_request())


async def test_unsafe_tool_that_crashes_has_an_unknown_outcome(bench: _Bench) -> None:
    """It may have crashed behind its effect: nobody is told to try again."""

    async def crash(_: Invocation) -> Answer:
        raise RuntimeError("secret")

    tool = _Ledger(Effect.UNSAFE, crash)
    with pytest.raises(OutcomeUnknown) as caught:
        await bench.executor(tool).execute(_request())
    assert str(caught.value) == (
        "An execution of ledger ended without an answer (The tool ledger failed by a fault of its"
        " own; the log has it as 00000000000000000000000001.). Nobody knows whether it was done,"
        " and it must not be repeated blindly: look, and decide."
    )
    with pytest.raises(OutcomeUnknown):
        await bench.executor(tool).execute(_request())
    assert tool.executions == 1


async def test_lost_dependency_of_an_idempotent_tool_can_be_tried_again(bench: _Bench) -> None:
    """What a tool needs and lacks is the call's error, and the next attempt executes again."""
    lost = [DependencyUnavailable("Failed to reach the bank.")]

    async def need(_: Invocation) -> Answer:
        if lost:
            raise lost.pop()
        return Answer("Booked.")

    executor = bench.executor(_Ledger(Effect.IDEMPOTENT, need))
    with pytest.raises(DependencyUnavailable):
        await executor.execute(_request())
    assert await executor.execute(_request()) == Execution(Answer("Booked."), False, 0.0)


async def test_done_call_is_answered_though_it_cannot_be_recorded(
    bench: _Bench, redis_server: RedisServer
) -> None:
    """When Redis goes away in the middle, the answer is given, and a warning logged."""

    async def lose_redis(_: Invocation) -> Answer:
        redis_server.kill()
        return Answer("Booked.")

    execution = await bench.executor(_Ledger(Effect.UNSAFE, lose_redis)).execute(_request())
    assert execution.answer == Answer("Booked.")
    assert json.loads(bench.lines.getvalue())["event"] == "tool.unrecorded"


async def test_without_redis_nothing_that_changes_something_is_executed(
    bench: _Bench, redis_server: RedisServer
) -> None:
    """What cannot be recorded is not begun."""
    redis_server.kill()
    tool = _Ledger(Effect.UNSAFE)
    with pytest.raises(DependencyUnavailable) as caught:
        await bench.executor(tool).execute(_request())
    assert caught.value.metadata == {"dependency": "redis"}
    assert tool.executions == 0


async def test_unknown_tool_is_refused_with_the_nearest(bench: _Bench) -> None:
    """A name that is nearly right gets the right one, another the list."""
    executor = bench.executor(_Ledger(Effect.UNSAFE))
    for name, message in (
        ("legder", "There is no tool 'legder'. Did you mean ledger?"),
        ("x", "There is no tool 'x'. Known are ledger."),
    ):
        with pytest.raises(ToolNotFound) as caught:
            await executor.execute(ToolRequest("acme", name, to_struct({})))
        assert caught.value.message == message
