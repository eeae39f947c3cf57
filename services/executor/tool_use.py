"""The tool calls of one model message: made side by side, recorded in order, or waited for."""

import asyncio
import hashlib
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final, Protocol

from agentmesh.common.v1 import usage_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from agentmesh.tool.v1 import tool_pb2, tool_service_pb2
from meshkit.clock import Clock
from meshkit.errors import (
    BreakerOpen,
    DeadlineExceeded,
    DependencyUnavailable,
    InvalidToolArguments,
    MeshError,
    OutcomeUnknown,
    ToolFailed,
    ToolNotFound,
)
from meshkit.frozen import frozen
from services.executor import control_tools, waits
from services.executor.journal import Journal
from services.executor.policies import Policies
from services.executor.step_limit import is_of_step, step_limit, wait_limit
from services.executor.waits import Answered, Approved

# The model reads these and can do better in its next step.
_MODEL_CAN_CORRECT: Final = (ToolNotFound, InvalidToolArguments, ToolFailed)
# The task goes on without the tool, and says so.
SKIPPED: Final = (DependencyUnavailable, BreakerOpen, DeadlineExceeded)

# A repeat of these would do it again, so their intent is recorded first.
_MUST_NOT_REPEAT: Final = (tool_pb2.EFFECT_UNSPECIFIED, tool_pb2.EFFECT_UNSAFE)

# A key has at most 200, with the task's id and what an approval adds. Providers' ids may be
# longer: some have what the model thought in them.
_MOST_ID_CHARACTERS: Final = 100


class Tools(Protocol):
    """Knows and executes tools, for the tenant of the current identity."""

    async def list(self, tenant: str) -> Mapping[str, tool_pb2.Tool]: ...

    async def execute(
        self, tenant: str, call: ToolCall, *, idempotency_key: str, session: str
    ) -> tool_service_pb2.ExecuteToolResponse: ...


@frozen
class _Execution:
    """A call that the tool service is to make now."""

    call: ToolCall
    tool: tool_pb2.Tool
    # The same in every attempt: it follows from the log alone.
    key: str

    @property
    def must_not_repeat(self) -> bool:
        """Whether each execution has its effect again."""
        return self.tool.effect in _MUST_NOT_REPEAT


@dataclass(frozen=True, slots=True)
class _Unknown:
    """A call that may have had its effect; only a person can say whether to make it again."""

    call: ToolCall
    why: str


@frozen
class _Done:
    """A call's result, ready to be recorded."""

    event: TaskEvent
    usage: usage_pb2.Usage
    notes: Sequence[TaskNote]


@dataclass(frozen=True, slots=True)
class ToolUse:
    """Answers a model's tool calls."""

    tools: Tools
    clock: Clock
    policies: Policies

    async def answer(
        self,
        journal: Journal,
        offered: Mapping[str, tool_pb2.Tool],
        model_step: int,
        calls: Sequence[ToolCall],
    ) -> bool:
        """Makes those of `calls` that can be made now, and records their results.

        Where none can be, the task begins to wait for the first of them.

        Returns:
            True if the task waits now.

        Raises:
            MeshError: A call failed; the results of the others are recorded.
            Fenced, CancelRequestedError: As Journal.append.
        """
        moves = [
            self._move(journal, offered, _key(journal.task_id, model_step, call.call_id), call)
            for call in calls
        ]
        now = [move for move in moves if not isinstance(move, TaskWaiting)]
        if not now:
            waiting = next(move for move in moves if isinstance(move, TaskWaiting))
            await self._wait(journal, waiting)
            return True
        for move in now:
            if isinstance(move, _Execution) and move.must_not_repeat:
                await self._intend(journal, move)
        outcomes = await self._make_all(journal, now)
        # What was done is recorded even if another call of the same message failed.
        for outcome in outcomes:
            if isinstance(outcome, _Done):
                outcome.event.tool_called.step = journal.status.steps + 1
                await journal.append(outcome.event, usage=outcome.usage, notes=outcome.notes)
        for outcome in outcomes:
            if isinstance(outcome, BaseException):
                raise outcome
        for outcome in outcomes:
            if isinstance(outcome, _Unknown):
                await self._wait_for_approval(journal, outcome)
                return True
        return False

    def _move(
        self, journal: Journal, offered: Mapping[str, tool_pb2.Tool], key: str, call: ToolCall
    ) -> _Execution | Answered | TaskWaiting:
        """What to do about a call next."""
        tool = offered.get(call.tool)
        outcome = waits.outcome(journal.events, call)
        if isinstance(outcome, Answered):
            return outcome
        if tool is None:
            return Answered(waits.failed(call, f"This agent has no tool {call.tool!r}."))
        if isinstance(outcome, Approved):
            return _Execution(call, tool, key + outcome.key_suffix)
        # By identity: a tenant's own tool of such a name is a tool like any other.
        if tool is control_tools.TOOLS.get(call.tool):
            try:
                return control_tools.waiting(
                    call,
                    journal.task,
                    journal.status,
                    sequence=journal.last_sequence + 1,
                    now=self.clock.now(),
                    wait_limit=wait_limit(self.policies, journal),
                )
            except InvalidToolArguments as error:
                return Answered(waits.failed(call, str(error)))
        if tool.requires_approval:
            return waits.for_approval(
                call,
                "The tool requires approval.",
                outcome_unknown=False,
                now=self.clock.now(),
                wait_limit=wait_limit(self.policies, journal),
            )
        return _Execution(call, tool, key)

    async def _intend(self, journal: Journal, execution: _Execution) -> None:
        """Announces an effect that must not happen twice, unless an earlier attempt did."""
        intended = (event.tool_intended.idempotency_key for event in reversed(journal.events))
        if execution.key in intended:
            return
        event = journal.event()
        event.tool_intended.step = journal.status.steps + 1
        event.tool_intended.call_id = execution.call.call_id
        event.tool_intended.idempotency_key = execution.key
        await journal.append(event)

    async def _make_all(
        self, journal: Journal, moves: Sequence[_Execution | Answered]
    ) -> Sequence[_Done | _Unknown | BaseException]:
        if len(moves) > 1:
            return await asyncio.gather(
                *(self._make(journal, move) for move in moves), return_exceptions=True
            )
        # The usual case, without a task of its own.
        try:
            return [await self._make(journal, moves[0])]
        except Exception as error:
            return [error]

    async def _make(self, journal: Journal, move: _Execution | Answered) -> _Done | _Unknown:
        event = journal.event()
        called = event.tool_called
        if isinstance(move, Answered):
            # Nothing was executed. What children used came with the end of the wait.
            called.result.CopyFrom(move.result)
            return _Done(event, usage_pb2.Usage(), move.notes)
        notes: list[TaskNote] = []
        begun = self.clock.monotonic_seconds()
        call = move.call
        try:
            with step_limit(self.policies, journal):
                answer = await self.tools.execute(
                    journal.tenant, call, idempotency_key=move.key, session=journal.task.session
                )
        except OutcomeUnknown as error:
            return _Unknown(call, str(error))
        except _MODEL_CAN_CORRECT as error:
            answer = _failed(call, error)
        except SKIPPED as error:
            # It may have happened: the next attempt asks under the same key. And
            # a step that ran out of time is for the next attempt, if there is one.
            if move.must_not_repeat or (is_of_step(error) and not journal.is_last_attempt):
                raise
            answer = _failed(call, error)
            notes.append(
                TaskNote(code="TOOL_SKIPPED", text=f"{call.tool} could not be used: {error}")
            )
        called.result.CopyFrom(answer.result)
        called.idempotency_key = move.key
        called.replayed = answer.replayed
        called.duration.FromNanoseconds(int((self.clock.monotonic_seconds() - begun) * 1e9))
        return _Done(event, usage_pb2.Usage(tool_calls=0 if answer.replayed else 1), notes)

    async def _wait_for_approval(self, journal: Journal, unknown: _Unknown) -> None:
        await self._wait(
            journal,
            waits.for_approval(
                unknown.call,
                f"{unknown.why} Approve to have it called again.",
                outcome_unknown=True,
                now=self.clock.now(),
                wait_limit=wait_limit(self.policies, journal),
            ),
        )

    async def _wait(self, journal: Journal, waiting: TaskWaiting) -> None:
        event = journal.event()
        event.waiting.CopyFrom(waiting)
        await journal.append(event)


def _key(task_id: str, model_step: int, call_id: str) -> str:
    if len(call_id) > _MOST_ID_CHARACTERS:
        call_id = hashlib.sha256(call_id.encode()).hexdigest()
    return f"{task_id}/{model_step}/{call_id}"


def _failed(call: ToolCall, error: MeshError) -> tool_service_pb2.ExecuteToolResponse:
    return tool_service_pb2.ExecuteToolResponse(result=waits.failed(call, str(error)))
