"""One attempt at a task: asks the agent's pattern for move after move, and makes them."""

from collections.abc import Mapping
from typing import Final

from google.protobuf import json_format

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from meshkit.constants import CLAIM_CHECK_BYTES
from meshkit.errors import BudgetExhausted, CorruptData, TooLarge
from services.executor import children, conversation, phase_answers
from services.executor.ending import finish_partial
from services.executor.journal import Journal
from services.executor.model_requests import ModelRequests
from services.executor.model_step import ModelStep, Said
from services.executor.pattern import Ask, Finish, HandOut, Pattern
from services.executor.session_memory import SessionMemory
from services.executor.step_limit import wait_limit
from services.executor.token_limit import TokenLimit
from services.executor.tool_use import ToolUse

# A supervisor keeps as much as each worker gets, for its review and its answer.
_KEPT_SHARES: Final = 1


class AgentRun:
    """Follows the log of one task, and adds to it until the task ends or waits."""

    def __init__(
        self,
        *,
        journal: Journal,
        pattern: Pattern,
        tools: Mapping[str, tool_pb2.Tool],
        requests: ModelRequests,
        model: ModelStep,
        use: ToolUse,
        memory: SessionMemory,
    ) -> None:
        self._journal: Final = journal
        self._pattern: Final = pattern
        self._tools: Final = tools
        self._requests: Final = requests
        self._model: Final = model
        self._use: Final = use
        self._memory: Final = memory
        self._tokens: Final = TokenLimit(journal.task, journal.agent)
        # So many events of the log were taken.
        self._taken = 0
        # Whether the model was told what the present move tells it.
        self._is_told = False
        # Whether the last wait is for parts that the pattern handed out.
        self._has_handed_out = False

    async def run(self) -> None:
        """Makes moves until the task has ended or waits.

        Raises:
            MeshError: A step failed; whether it may be repeated is for the caller to say.
            Fenced, CancelRequestedError: As Journal.append.
        """
        journal = self._journal
        while True:
            self._take_news()
            may_go_on = journal.status.steps < journal.agent.max_steps
            model_step, calls = conversation.pending_calls(journal.events)
            if calls and may_go_on:
                if await self._use.answer(journal, self._tools, model_step, calls):
                    return
                continue
            move = None if calls else self._pattern.next()
            if isinstance(move, Finish):
                await self._finish(move)
                return
            if move is None or not may_go_on:
                limit = journal.agent.max_steps
                await self._end(TaskNote(code="STEP_LIMIT", text=f"Stopped after {limit} steps."))
                return
            if isinstance(move, HandOut):
                await self._hand_out(move)
                return
            if await self._ask(move):
                return

    def _take_news(self) -> None:
        events = self._journal.events
        for event in events[self._taken :]:
            self._take(event)
        self._taken = len(events)

    def _take(self, event: TaskEvent) -> None:
        self._tokens.take(event)
        match event.WhichOneof("kind"):
            case "model_called":
                self._take_answer(event)
            case "tool_called":
                self._requests.add_result(event.tool_called.result)
            case "waiting":
                waiting = event.waiting
                self._has_handed_out = bool(waiting.children) and not waiting.wait.call_id
            case "resumed" if self._has_handed_out:
                self._pattern.returned(event.resumed.children)
            case _:
                pass

    def _take_answer(self, event: TaskEvent) -> None:
        called = event.model_called
        ask = self._pattern.next()
        if not isinstance(ask, Ask) or ask.phase != called.phase:
            raise CorruptData(f"Event {event.sequence} of {event.task} does not fit its pattern.")
        self._tell(ask)
        is_answer = not called.message.tool_calls
        if is_answer and ask.instruction and not ask.pins_instruction:
            self._requests.done()
        self._requests.add(called.message, is_pinned=is_answer and ask.pins_answer)
        if is_answer:
            self._is_told = False
            self._pattern.answered(conversation.text_of(called.message), called.citations)

    def _tell(self, ask: Ask) -> None:
        if ask.instruction and not self._is_told:
            self._requests.tell(ask.instruction)
        self._is_told = True

    async def _ask(self, ask: Ask) -> bool:
        """One model step; True if the task ended."""
        journal = self._journal
        self._tell(ask)
        most = self._tokens.answer_tokens(journal.status, self._requests.tokens)
        if most is None:
            await self._end(self._tokens.reached(journal.status))
            return True
        request = self._requests.next(journal, ask, answer_tokens=most)
        try:
            said = await self._model.ask(journal, request, aloud=ask.ending is not None)
        except BudgetExhausted as error:
            if not _is_own_cap(error, journal.task):
                raise
            await self._end(TaskNote(code="COST_LIMIT", text=str(error)))
            return True
        if said.answer.message.tool_calls or ask.ending is None:
            await self._record(ask, said)
            return False
        await self._complete(ask, said)
        return True

    async def _record(self, ask: Ask, said: Said) -> None:
        journal, answer = self._journal, said.answer
        event = journal.event()
        called = event.model_called
        said.note(called, journal.status.steps + 1, ask.phase)
        called.message.CopyFrom(answer.message)
        if answer.message.tool_calls:
            conversation.tell_calls_apart(called.message)
        else:
            called.citations.extend(answer.citations)
            if answer.HasField("data"):
                # As it was checked, without what a model may have put around it.
                del called.message.parts[:]
                called.message.parts.add(text=json_format.MessageToJson(answer.data, indent=None))
        await journal.append(event, usage=answer.usage, notes=_degradations(answer))

    async def _complete(self, ask: Ask, said: Said) -> None:
        """Records the last answer and the end of the task in one event."""
        assert ask.ending is not None
        journal, answer = self._journal, said.answer
        text = conversation.text_of(answer.message)
        await self._memory.remember(journal, text)
        event = journal.event()
        completed = event.completed
        # The answer stands in the output; the step needs no second copy.
        said.note(completed.model_called, journal.status.steps + 1, ask.phase)
        completed.output.text = text
        if answer.HasField("data"):
            completed.output.data.CopyFrom(answer.data)
        completed.citations.extend(answer.citations or ask.ending.citations)
        await journal.append(
            event,
            state=_state(is_partial=ask.ending.is_partial or self._is_cut(answer)),
            usage=answer.usage,
            notes=[*_degradations(answer), *_what_cut(answer), *ask.ending.notes],
        )

    def _is_cut(self, answer: reasoning.GenerateResponse) -> bool:
        """Whether the provider, or a limit of the task or its agent, cut the answer short."""
        if answer.stop_reason != reasoning.STOP_REASON_MAX_TOKENS:
            return answer.stop_reason == reasoning.STOP_REASON_REFUSED
        limits = self._journal.agent.limits
        return bool(
            limits.max_output_tokens or limits.max_tokens or self._journal.task.budget_tokens
        )

    async def _finish(self, move: Finish) -> None:
        journal = self._journal
        await self._memory.remember(journal, move.text)
        event = journal.event()
        event.completed.output.text = move.text
        data = phase_answers.data(move.text) if journal.agent.output_schema else None
        if data is not None:
            event.completed.output.data.CopyFrom(data)
        event.completed.citations.extend(move.citations)
        await journal.append(
            event, state=_state(is_partial=move.ending.is_partial), notes=move.ending.notes
        )

    async def _hand_out(self, move: HandOut) -> None:
        journal, now = self._journal, self._model.clock.now()
        task, status = journal.task, journal.status
        if children.is_spent(task, status, len(move.parts) + _KEPT_SHARES):
            await self._end(
                TaskNote(
                    code="BUDGET_LIMIT",
                    text=f"Too little is left of the task's budget for {len(move.parts)} parts.",
                )
            )
            return
        event = journal.event()
        waiting = event.waiting
        waiting.wait.expire_time.FromDatetime(now + wait_limit(self._model.policies, journal))
        for child in children.children_of(
            task,
            status,
            move.parts,
            sequence=journal.last_sequence + 1,
            now=now,
            kept_shares=_KEPT_SHARES,
        ):
            waiting.children.append(child)
            waiting.wait.children.tasks.append(child.name)
        if waiting.ByteSize() > CLAIM_CHECK_BYTES:
            raise TooLarge(
                f"The parts are {waiting.ByteSize():,} bytes together; the limit is"
                f" {CLAIM_CHECK_BYTES:,}. Have the supervisor hand out fewer, or in fewer words.",
                metadata={
                    "limit_bytes": str(CLAIM_CHECK_BYTES),
                    "size_bytes": str(waiting.ByteSize()),
                },
            )
        await journal.append(event)

    async def _end(self, note: TaskNote) -> None:
        await finish_partial(self._journal, note)


def _state(*, is_partial: bool) -> task_pb2.TaskState:
    return task_pb2.TASK_STATE_PARTIAL if is_partial else task_pb2.TASK_STATE_SUCCEEDED


def _degradations(answer: reasoning.GenerateResponse) -> list[TaskNote]:
    return [TaskNote(code="DEGRADED", text=text) for text in answer.degradations]


def _what_cut(answer: reasoning.GenerateResponse) -> list[TaskNote]:
    """Why the last answer is not whole; nothing where it is."""
    match answer.stop_reason:
        case reasoning.STOP_REASON_MAX_TOKENS:
            text = "The model's token limit cut the answer short."
            return [TaskNote(code="OUTPUT_LIMIT", text=text)]
        case reasoning.STOP_REASON_REFUSED:
            text = "The model's provider withheld the answer, or the rest of it."
            return [TaskNote(code="ANSWER_REFUSED", text=text)]
        case _:
            return []


def _is_own_cap(error: BudgetExhausted, task: task_pb2.Task) -> bool:
    """Whether what is spent is the task's own cap."""
    name = f"tenants/{task.tenant}/budgets/task-lifetime-{task.name.rpartition('/')[2]}"
    return error.metadata.get("budget") == name
