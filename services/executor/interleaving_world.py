"""A mesh in memory in which a test decides what happens next: every append waits for its turn.

The executors are real; the log, the queue and the services that they call are
not. Only for tests.
"""

import asyncio
import random
from collections.abc import AsyncIterator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from io import StringIO
from typing import Any, cast

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef, Message, ToolCall, ToolResult
from agentmesh.coordinator.v1.snapshot_pb2 import TaskSnapshot
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1.tool_service_pb2 import ExecuteToolResponse
from meshkit import log as lines
from meshkit.bus import Delivery
from meshkit.errors import Conflict, DependencyUnavailable, OutcomeUnknown, ProviderFailed
from meshtest.clock import FakeClock
from meshtest.scripted import calls, says
from services.executor.agents import Agents
from services.executor.claim import Claims
from services.executor.failures import Failures
from services.executor.held import Held
from services.executor.history import Histories
from services.executor.journal import Journal
from services.executor.model_step import ModelStep, Room
from services.executor.runner import Runner
from services.executor.session_memory import SessionMemory
from services.executor.tool_use import ToolUse
from tasklog import lifecycle, subjects
from tasklog.partitions import WHOLE
from tasklog.policy import built_in, policy_of
from tasklog.task_log import Entry

TENANT = "acme"
# Turns of the loop after which everybody waits for something that the test decides.
_TURNS = 80


@dataclass(eq=False)
class Turn:
    """An append that waits for its turn."""

    executor: "Executor"
    task_id: str
    event: TaskEvent
    after: int
    stored: "asyncio.Future[Entry]"


@dataclass(eq=False)
class Stored:
    """A runnable event as the queue keeps it, until somebody acknowledges it."""

    subject: str
    payload: bytes
    sequence: int
    deliveries: int = 0


class MemoryLog:
    """All logs. The appends of executors wait to be let; those of the coordinator do not."""

    def __init__(self) -> None:
        self.entries: dict[str, list[Entry]] = {}
        self.queue: dict[int, Stored] = {}
        self.sequence = 0

    def store(self, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        """Appends at once."""
        entries = self.entries.setdefault(task_id, [])
        if (entries[-1].stream_sequence if entries else 0) != after:
            raise Conflict("Somebody else wrote.")
        self.sequence += 1
        if event.sequence == 1:
            event.status.submitted_stream_sequence = self.sequence
        kept = TaskEvent()
        kept.CopyFrom(event)
        entry = Entry(kept, self.sequence)
        entries.append(entry)
        if subjects.queue_of(TENANT, event) is not None:
            subject = WHOLE.of_event(TENANT, task_id, event)
            self.queue[self.sequence] = Stored(subject, event.SerializeToString(), self.sequence)
        return entry


class _ExecutorLog:
    """The log as one executor sees it."""

    def __init__(self, log: MemoryLog, executor: "Executor") -> None:
        self._log = log
        self._executor = executor

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        return self._log.entries[task_id][-1] if task_id in self._log.entries else None

    async def last_readable(self, tenant: str, task_id: str) -> Entry | None:
        return await self.last(tenant, task_id)

    async def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int = 1
    ) -> AsyncIterator[Entry]:
        for entry in tuple(self._log.entries.get(task_id, ())):
            if entry.stream_sequence >= from_stream_sequence:
                yield entry

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        stored: asyncio.Future[Entry] = asyncio.get_running_loop().create_future()
        turn = Turn(self._executor, task_id, event, after, stored)
        self._executor.turns.append(turn)
        try:
            return await stored
        finally:
            if turn in self._executor.turns:
                self._executor.turns.remove(turn)


class _NoSnapshots:
    """Logs are short here."""

    async def load(self, tenant: str, task_id: str) -> tuple[TaskSnapshot, int]:
        return TaskSnapshot(), 0

    async def save(self, tenant: str, task_id: str, snapshot: TaskSnapshot, *, after: int) -> int:
        raise AssertionError

    async def put(self, tenant: str, task_id: str, entries: Sequence[Entry]) -> BlobRef:
        raise AssertionError

    async def get(self, tenant: str, task_id: str, reference: BlobRef) -> list[Entry]:
        raise AssertionError

    async def drop(self, tenant: str, task_id: str, reference: BlobRef) -> None:
        raise AssertionError


class Model:
    """Follows the plan that the task's text is: a tool each step, then the answer."""

    def __init__(self) -> None:
        self.failing = 0

    async def room(self, tier: tier_pb2.ModelTier) -> Room:
        return Room(0, 0)

    async def generate(self, request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if self.failing:
            self.failing -= 1
            raise ProviderFailed("The provider answered 529.")
        plan = request.messages[1].parts[0].text.split()
        step = sum(message.role == conversation_pb2.ROLE_ASSISTANT for message in request.messages)
        if step == len(plan):
            return says("done")
        named = plan[step].split("+")
        made = [ToolCall(call_id=f"s{step}c{n}", tool=name) for n, name in enumerate(named)]
        for call in made:
            if call.tool == "ask_person":
                call.arguments["question"] = "Well?"
            if call.tool == "wait":
                call.arguments["seconds"] = 5
        return calls(*made)

    async def generate_stream(self, request: object, on_text: object) -> Any:
        raise AssertionError


class ToolService:
    """Keeps the promises of the tool service: an effect once a key, or an unknown outcome."""

    TOOLS: Mapping[str, tool_pb2.Tool] = {
        tool.tool_id: tool
        for tool in (
            tool_pb2.Tool(tool_id="look", effect=tool_pb2.EFFECT_READ_ONLY),
            tool_pb2.Tool(tool_id="put", effect=tool_pb2.EFFECT_IDEMPOTENT),
            tool_pb2.Tool(tool_id="send", effect=tool_pb2.EFFECT_UNSAFE),
            tool_pb2.Tool(tool_id="pay", effect=tool_pb2.EFFECT_UNSAFE, requires_approval=True),
        )
    }

    def __init__(self) -> None:
        # How many of the next effects end without an answer.
        self.losing = 0
        # By key: the call that had its effect. Each key has it once.
        self.effects: dict[str, ToolCall] = {}
        self._unknown: set[str] = set()

    async def list(self, tenant: str) -> Mapping[str, tool_pb2.Tool]:
        return self.TOOLS

    async def execute(
        self, tenant: str, call: ToolCall, *, idempotency_key: str, session: str
    ) -> ExecuteToolResponse:
        if idempotency_key in self._unknown:
            raise OutcomeUnknown("Nobody knows.")
        replayed = idempotency_key in self.effects
        if not replayed:
            self.effects[idempotency_key] = call
            if self.losing and self.TOOLS[call.tool].effect == tool_pb2.EFFECT_UNSAFE:
                self.losing -= 1
                self._unknown.add(idempotency_key)
                raise OutcomeUnknown("Nobody knows.")
        result = ToolResult(call_id=call.call_id, tool=call.tool, text="ok")
        return ExecuteToolResponse(result=result, replayed=replayed)


class _Nobody:
    """No sessions, and nobody who listens to words."""

    async def context(self, tenant: str, session: str) -> Sequence[Message]:
        raise AssertionError

    async def remember(
        self, tenant: str, session: str, messages: Sequence[Message], request_id: str
    ) -> None:
        raise AssertionError

    async def say(self, journal: Journal, step: int, text: str) -> None:
        raise AssertionError


@dataclass(frozen=True)
class _Policies:
    current = policy_of(built_in())


class _Delivery:
    """A delivery that its executor can settle for as long as it lives."""

    def __init__(self, world: "World", executor: "Executor", stored: Stored) -> None:
        self._queue = world.log.queue
        self._executor = executor
        self.subject, self.payload = stored.subject, stored.payload
        self.sequence, self.delivery_count = stored.sequence, stored.deliveries

    async def acknowledge(self) -> None:
        self._queue.pop(self.sequence, None)

    async def not_now(self, delay_seconds: float) -> None:
        """It is in the queue all the time: any delivery may be followed by another."""

    async def in_progress(self) -> None:
        """Claims may run out at any time."""


class Executor:
    """A real runner. Dead, it never gets another turn."""

    def __init__(self, world: "World", number: int) -> None:
        self.turns: list[Turn] = []
        self.runs: set[asyncio.Task[None]] = set()
        log = _ExecutorLog(world.log, self)
        self.runner = Runner(
            claims=Claims(
                log=log,
                histories=Histories(log=log, store=_NoSnapshots(), lines=world.lines),
                clock=world.clock,
                writer=f"executor/{number}",
                policies=_Policies(),
            ),
            agents=Agents(
                model=ModelStep(world.model, _Nobody(), world.clock, _Policies()),
                use=ToolUse(world.tools, world.clock, _Policies()),
                memory=SessionMemory(_Nobody()),
            ),
            failures=Failures(_Policies(), world.clock, random.Random(number)),
            clock=world.clock,
            log=world.lines,
        )


@dataclass
class World:
    """What there is, and what may happen to it."""

    log: MemoryLog = field(default_factory=MemoryLog)
    clock: FakeClock = field(default_factory=FakeClock)
    model: Model = field(default_factory=Model)
    tools: ToolService = field(default_factory=ToolService)
    lines: Any = field(default_factory=lambda: lines.get("test", stream=StringIO()))
    loop: asyncio.AbstractEventLoop = field(default_factory=asyncio.new_event_loop)
    executors: list[Executor] = field(default_factory=list[Executor])
    dead: list[Executor] = field(default_factory=list[Executor])

    def __post_init__(self) -> None:
        for _ in range(2):
            self._join()

    def settle(self) -> None:
        """Lets everybody go on until the test has to decide."""

        async def turns() -> None:
            for _ in range(_TURNS):
                await asyncio.sleep(0)

        self.loop.run_until_complete(turns())

    def pending(self) -> list[Turn]:
        """The appends of the living that wait for their turn."""
        return [turn for executor in self.executors for turn in executor.turns]

    def submit(self, plan: str, *, limit: timedelta = timedelta(days=1)) -> None:
        """A task whose model follows `plan`."""
        task_id = f"t{len(self.log.entries) + 1}"
        now = self.clock.now()
        event = lifecycle.new_event(subjects.task_name(TENANT, task_id), "coordinator/c")
        event.submitted.task.CopyFrom(Task(name=event.task, tenant=TENANT))
        event.submitted.task.input.text = plan
        event.submitted.agent.CopyFrom(
            AgentSpec(
                name="tenants/acme/agents/a@1",
                max_steps=40,
                tools=[*ToolService.TOOLS, "ask_person", "wait"],
            )
        )
        status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
        status.create_time.FromDatetime(now)
        status.time_limit.FromTimedelta(limit)
        status.deadline.FromDatetime(now + limit)
        lifecycle.advance(status, event, sequence=1, time=now)
        self.log.store(task_id, event, after=0)

    def write(self, task_id: str, event: TaskEvent) -> None:
        """Appends as the coordinator."""
        last = self.log.entries[task_id][-1]
        event.task, event.writer = last.event.task, "coordinator/c"
        lifecycle.advance(
            last.event.status, event, sequence=last.event.sequence + 1, time=self.clock.now()
        )
        self.log.store(task_id, event, after=last.stream_sequence)

    def deliver(self, stored: Stored, executor: Executor) -> None:
        """Delivers a message, whether somebody has it already or not."""
        stored.deliveries += 1
        delivery = cast(Delivery, _Delivery(self, executor, stored))
        run = self.loop.create_task(executor.runner.run(Held(delivery)))
        executor.runs.add(run)
        run.add_done_callback(executor.runs.discard)
        self.settle()

    def let(self, turn: Turn) -> None:
        """Lets an append happen."""
        try:
            turn.stored.set_result(self.log.store(turn.task_id, turn.event, after=turn.after))
        except Conflict as conflict:
            turn.stored.set_exception(conflict)
        self.settle()

    def give_up(self, turn: Turn) -> None:
        """An append is not answered in time."""
        turn.stored.set_exception(DependencyUnavailable("Nobody answers."))
        self.settle()

    def crash(self, turn: Turn, *, is_stored: bool) -> None:
        """Kills an executor at an append: before it is stored, or before it hears of that."""
        if is_stored:
            last = self.log.entries[turn.task_id][-1].stream_sequence
            if last == turn.after:
                self.log.store(turn.task_id, turn.event, after=turn.after)
        self.executors.remove(turn.executor)
        self.dead.append(turn.executor)
        self._join()

    def store_unheard(self, executor: Executor) -> None:
        """What an executor has on its way is stored; no answer has come yet."""
        for turn in executor.turns:
            entries = self.log.entries[turn.task_id]
            if entries[-1].stream_sequence == turn.after:
                self.log.store(turn.task_id, turn.event, after=turn.after)

    def stop(self, executor: Executor) -> None:
        """Tells an executor to stop, as SIGTERM does."""
        for run in tuple(executor.runs):
            run.cancel()
        self.settle()

    def close(self) -> None:
        """Ends everything that is left."""
        everybody = [*self.executors, *self.dead]
        for _ in range(3):
            for executor in everybody:
                for turn in tuple(executor.turns):
                    turn.stored.cancel()
                for run in tuple(executor.runs):
                    run.cancel()
            self.settle()
        self.loop.close()

    def _join(self) -> None:
        number = len(self.executors) + len(self.dead)
        self.executors.append(Executor(self, number))
