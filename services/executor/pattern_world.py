"""One task of any pattern on a log in memory, whose executor may be killed at any event.

The executor's own parts are real; the log, models, tools, memory and workers are not.
Only for tests.
"""

from collections.abc import AsyncIterator, Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import timedelta
from typing import Any

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.common.v1.conversation_pb2 import Message, ToolCall, ToolResult
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import (
    AgentSpec,
    ChildResult,
    TaskEvent,
    TaskStatus,
    TaskWorker,
)
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from agentmesh.tool.v1.tool_service_pb2 import ExecuteToolResponse
from meshkit.errors import Conflict
from meshtest.clock import FakeClock
from meshtest.scripted import says
from services.executor.agents import Agents
from services.executor.journal import History, Journal
from services.executor.model_step import ModelStep, Room
from services.executor.session_memory import SessionMemory
from services.executor.tool_use import ToolUse
from tasklog import fold, lifecycle
from tasklog.policy import built_in, policy_of
from tasklog.task_log import Entry

TASK = "tenants/acme/tasks/t"
# More starts than any test needs: a task that never ends fails its test.
_MOST_STARTS = 50

Script = Callable[[reasoning.GenerateRequest], reasoning.GenerateResponse]


class Killed(BaseException):
    """The executor is gone."""


def instruction(request: reasoning.GenerateRequest) -> str:
    """What the user said last: an instruction, or the request."""
    said = [each for each in request.messages if each.role == conversation_pb2.ROLE_USER]
    return said[-1].parts[0].text


def works(text: str) -> Callable[[Task], ChildResult]:
    """A worker that always succeeds, for 20 tokens and 9 micro-dollars."""

    def work(child: Task) -> ChildResult:
        result = ChildResult(
            task=child.name,
            state=task_pb2.TASK_STATE_SUCCEEDED,
            usage=Usage(input_tokens=15, output_tokens=5, cost_micros=9, model_calls=1),
        )
        result.output.text = text
        result.citations.add(document=f"tenants/acme/documents/{text}")
        return result

    return work


@dataclass
class World:
    """A task, and what happens around it."""

    agent: AgentSpec
    script: Script
    workers: Sequence[TaskWorker] = ()
    work: Callable[[Task], ChildResult] = field(default_factory=lambda: works("found"))
    room: Room = field(default_factory=lambda: Room(0, 0))
    # After so many stored events the executor is killed, once: before the next one is
    # stored, or just after, when it cannot know.
    kill_after: int = 0
    is_last_stored: bool = False
    requests: list[reasoning.GenerateRequest] = field(
        default_factory=list[reasoning.GenerateRequest]
    )
    executed: list[str] = field(default_factory=list[str])
    children: list[Task] = field(default_factory=list[Task])
    remembered: list[str] = field(default_factory=list[str])
    entries: list[Entry] = field(default_factory=list[Entry])
    clock: FakeClock = field(default_factory=FakeClock)

    # As a Log.

    async def last(self, tenant: str, task_id: str) -> Entry | None:
        return self.entries[-1]

    async def last_readable(self, tenant: str, task_id: str) -> Entry | None:
        return self.entries[-1]

    async def read(
        self, tenant: str, task_id: str, *, from_stream_sequence: int = 1
    ) -> AsyncIterator[Entry]:
        for entry in self.entries[from_stream_sequence - 1 :]:
            yield entry

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        if after != len(self.entries):
            raise Conflict("Somebody else wrote.")
        is_fatal = self.kill_after and len(self.entries) >= self.kill_after
        if is_fatal and not self.is_last_stored:
            self.kill_after = 0
            raise Killed
        kept = TaskEvent()
        kept.CopyFrom(event)
        entry = Entry(kept, after + 1)
        self.entries.append(entry)
        if is_fatal:
            self.kill_after = 0
            raise Killed
        return entry

    # As Words, Sessions and Policies.

    current = policy_of(built_in())

    async def say(self, journal: Journal, step: int, text: str) -> None:
        raise AssertionError

    async def context(self, tenant: str, session: str) -> Sequence[Message]:
        return ()

    async def remember(
        self, tenant: str, session: str, messages: Sequence[Message], request_id: str
    ) -> None:
        if not self.remembered:
            self.remembered.append(messages[1].parts[0].text)

    # What a test does.

    async def run(self, text: str = "What is it?", **task: Any) -> Task:
        """The task, once it has ended."""
        self._submit(text, task)
        for _ in range(_MOST_STARTS):
            last = self.entries[-1].event
            if last.status.state in lifecycle.TERMINAL:
                fold.replay(entry.event for entry in self.entries)
                return fold.task_of(self.entries[0].event, last)
            if last.status.state == task_pb2.TASK_STATE_WAITING:
                self._resume(last)
            try:
                await self._agents().run(await self._start())
            except Killed:
                continue
        raise AssertionError("The task does not end.")

    @property
    def kinds(self) -> list[str]:
        """What happened, in order, without the starts."""
        kinds = [entry.event.WhichOneof("kind") or "" for entry in self.entries]
        return [kind for kind in kinds if kind != "started"]

    def _agents(self) -> Agents:
        return Agents(
            model=ModelStep(_Models(self), self, self.clock, self),
            use=ToolUse(_Tools(self), self.clock, self),
            memory=SessionMemory(self),
        )

    def _submit(self, text: str, task: Mapping[str, Any]) -> None:
        now = self.clock.now()
        event = lifecycle.new_event(TASK, "coordinator/c")
        event.submitted.task.CopyFrom(Task(name=TASK, tenant="acme", session="s", **task))
        event.submitted.task.input.text = text
        event.submitted.agent.CopyFrom(self.agent)
        event.submitted.workers.extend(self.workers)
        status = TaskStatus(lane=tier_pb2.LANE_STANDARD)
        status.create_time.FromDatetime(now)
        status.time_limit.FromTimedelta(timedelta(days=1))
        status.deadline.FromDatetime(now + timedelta(days=1))
        self.entries.append(Entry(lifecycle.advance(status, event, sequence=1, time=now), 1))

    async def _start(self) -> Journal:
        last = self.entries[-1].event
        event = lifecycle.new_event(TASK, "executor/e")
        event.started.attempt = last.status.attempt + 1
        self._write(event)
        return Journal(
            log=self,
            clock=self.clock,
            writer="executor/e",
            history=History("acme", "t", list(self.entries)),
            grown=lambda history: None,
            is_last_attempt=False,
        )

    def _resume(self, waiting: TaskEvent) -> None:
        """Does what the coordinator would: all children run to their ends."""
        event = lifecycle.new_event(TASK, "coordinator/c")
        event.resumed.SetInParent()
        usage = Usage()
        for child in waiting.waiting.children:
            self.children.append(child)
            result = self.work(child)
            lifecycle.add_usage(usage, result.usage)
            event.resumed.children.append(result)
        self._write(event, usage)

    def _write(self, event: TaskEvent, usage: Usage | None = None) -> None:
        last = self.entries[-1]
        lifecycle.advance(
            last.event.status,
            event,
            sequence=last.event.sequence + 1,
            time=self.clock.now(),
            usage=usage,
        )
        self.entries.append(Entry(event, last.stream_sequence + 1))


@dataclass(frozen=True)
class _Models:
    """Models of one room."""

    world: World

    async def room(self, tier: tier_pb2.ModelTier) -> Room:
        return self.world.room

    async def generate(self, request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        kept = reasoning.GenerateRequest()
        kept.CopyFrom(request)
        self.world.requests.append(kept)
        return self.world.script(kept)

    async def generate_stream(
        self, request: reasoning.GenerateRequest, on_text: Callable[[str], Awaitable[None]]
    ) -> reasoning.GenerateResponse:
        return await self.generate(request)


@dataclass(frozen=True)
class _Tools:
    """The tool `look`, which finds something each time."""

    world: World

    async def list(self, tenant: str) -> Mapping[str, tool_pb2.Tool]:
        return {"look": tool_pb2.Tool(tool_id="look", effect=tool_pb2.EFFECT_READ_ONLY)}

    async def execute(
        self, tenant: str, call: ToolCall, *, idempotency_key: str, session: str
    ) -> ExecuteToolResponse:
        replayed = idempotency_key in self.world.executed
        if not replayed:
            self.world.executed.append(idempotency_key)
        result = ToolResult(call_id=call.call_id, tool=call.tool, text=f"seen {call.call_id}")
        return ExecuteToolResponse(result=result, replayed=replayed)


def answers(**by_phase: Sequence[reasoning.GenerateResponse | str]) -> Script:
    """A model that answers each phase from its own list; the last of a list comes again.

    Which of a list it is follows from the conversation alone, so that a repeated request
    gets the same answer. `request` is the list for when no instruction was given yet.
    """

    def script(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        phase = _phase(instruction(request))
        said, here = 0, ""
        for message in request.messages:
            if message.role == conversation_pb2.ROLE_USER:
                here = _phase(message.parts[0].text)
            elif message.role == conversation_pb2.ROLE_ASSISTANT and here == phase:
                said += 1
        listed = by_phase[phase]
        answer = listed[min(said, len(listed) - 1)]
        return says(answer) if isinstance(answer, str) else answer

    return script


def _phase(text: str) -> str:
    """`plan` of an instruction that begins `[plan]`; `request` of any other text."""
    return text[1:].partition("]")[0] if text.startswith("[") else "request"
