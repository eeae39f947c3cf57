"""ReAct: the model and its tools in turn, until the model answers.

After Yao et al., "ReAct: Synergizing Reasoning and Acting in Language Models"
(2022). Single shot is the same with no tools: the first answer is the last.
"""

from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from typing import Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import Message
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ModelCalled
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from meshkit.clock import Clock
from meshkit.errors import MeshError, RequestIdReused
from services.executor import control_tools, conversation
from services.executor.journal import Journal
from services.executor.model_requests import ModelRequests
from services.executor.policies import Policies
from services.executor.step_limit import step_limit
from services.executor.tool_use import SKIPPED, Tools, ToolUse


class Models(Protocol):
    """Answers conversations."""

    async def generate(self, request: reasoning.GenerateRequest) -> reasoning.GenerateResponse: ...

    async def generate_stream(
        self, request: reasoning.GenerateRequest, on_text: Callable[[str], Awaitable[None]]
    ) -> reasoning.GenerateResponse: ...


class Sessions(Protocol):
    """Remembers the conversations of sessions."""

    async def context(self, tenant: str, session: str) -> Sequence[Message]: ...

    async def remember(
        self, tenant: str, session: str, messages: Sequence[Message], request_id: str
    ) -> None: ...


class Words(Protocol):
    """Passes on what a model says while it is still speaking."""

    async def say(self, journal: Journal, step: int, text: str) -> None: ...


@dataclass(frozen=True, slots=True)
class React:
    """Runs one task from wherever its journal stands to its end."""

    models: Models
    tools: Tools
    sessions: Sessions
    words: Words
    clock: Clock
    policies: Policies

    async def run(self, journal: Journal) -> None:
        """Appends steps until the task has ended or waits.

        Raises:
            MeshError: A step failed; whether it may be repeated is for the caller to say.
            Fenced, CancelRequestedError: As Journal.append.
        """
        tools = await self._tools(journal)
        requests = ModelRequests(journal, tools, await self._earlier(journal))
        use = ToolUse(self.tools, self.clock, self.policies)
        while journal.status.steps < journal.agent.max_steps:
            model_step, calls = conversation.pending_calls(journal.events)
            if calls:
                if await use.answer(journal, tools, model_step, calls):
                    return
            elif await self._ask_model(journal, requests):
                return
        limit = journal.agent.max_steps
        await finish_partial(
            journal, TaskNote(code="STEP_LIMIT", text=f"Stopped after {limit} steps.")
        )

    async def _tools(self, journal: Journal) -> Mapping[str, tool_pb2.Tool]:
        agent = journal.agent
        if agent.pattern == task_event_pb2.AGENT_PATTERN_SINGLE_SHOT:
            return {}
        tools: Mapping[str, tool_pb2.Tool] = {}
        try:
            tools = await self.tools.list(journal.tenant)
        except SKIPPED as error:
            if not journal.is_last_attempt:
                raise
            await _degrade(journal, "TOOLS_SKIPPED", f"No tools were available: {error}")
        if not agent.tools:
            return tools
        # Those that make a task wait are for agents that ask for them. A tool that
        # the tenant registered under such a name comes before them.
        known = {**control_tools.TOOLS, **tools}
        return {name: known[name] for name in sorted(set(agent.tools)) if name in known}

    async def _earlier(self, journal: Journal) -> Sequence[Message]:
        task = journal.task
        if not task.session or not journal.agent.use_session_memory:
            return ()
        try:
            return await self.sessions.context(journal.tenant, task.session)
        except MeshError as error:
            await _degrade(
                journal, "SESSION_SKIPPED", f"Earlier messages of the session are missing: {error}"
            )
            return ()

    async def _ask_model(self, journal: Journal, requests: ModelRequests) -> bool:
        """One model step; True if it was the last step of the task."""
        request = requests.next()
        step = journal.status.steps + 1
        begun = self.clock.monotonic_seconds()
        with step_limit(self.policies, journal):
            if journal.status.lane == tier_pb2.LANE_INTERACTIVE:
                answer = await self.models.generate_stream(
                    request, lambda text: self.words.say(journal, step, text)
                )
            else:
                answer = await self.models.generate(request)
        seconds = self.clock.monotonic_seconds() - begun
        notes = [TaskNote(code="DEGRADED", text=text) for text in answer.degradations]
        event = journal.event()
        if answer.message.tool_calls:
            _note_call(event.model_called, step, answer, seconds)
            event.model_called.message.CopyFrom(answer.message)
            conversation.tell_calls_apart(event.model_called.message)
            await journal.append(event, usage=answer.usage, notes=notes)
            return False
        if answer.stop_reason == reasoning.STOP_REASON_MAX_TOKENS:
            notes.append(
                TaskNote(code="OUTPUT_LIMIT", text="The model's token limit cut the answer short.")
            )
        await self._remember(journal, answer.message)
        # The answer stands in the output; the step needs no second copy.
        completed = event.completed
        _note_call(completed.model_called, step, answer, seconds)
        completed.output.text = conversation.text_of(answer.message)
        if answer.HasField("data"):
            completed.output.data.CopyFrom(answer.data)
        completed.citations.extend(answer.citations)
        await journal.append(
            event, state=task_pb2.TASK_STATE_SUCCEEDED, usage=answer.usage, notes=notes
        )
        return True

    async def _remember(self, journal: Journal, answer: Message) -> None:
        task = journal.task
        if not task.session or not journal.agent.use_session_memory:
            return
        try:
            # Before the end is recorded: a crash between the two repeats the
            # append, which the request id makes harmless.
            await self.sessions.remember(
                journal.tenant, task.session, [conversation.request(task), answer], journal.task_id
            )
        except RequestIdReused:
            # An earlier attempt got as far as this with other words: the session has an answer.
            return
        except MeshError as error:
            await _degrade(
                journal, "SESSION_SKIPPED", f"The session does not remember this answer: {error}"
            )


def _note_call(
    called: ModelCalled, step: int, answer: reasoning.GenerateResponse, seconds: float
) -> None:
    """What is recorded of a model call, but for what the model said."""
    called.step = step
    called.model = answer.model
    called.tier = answer.tier
    if answer.cache > reasoning.CACHE_OUTCOME_MISS:
        called.cache = reasoning.CacheOutcome.Name(answer.cache).removeprefix("CACHE_OUTCOME_")
    called.duration.FromNanoseconds(int(seconds * 1e9))


async def finish_partial(journal: Journal, note: TaskNote) -> None:
    """Ends a task with the best result so far and what is missing."""
    text, citations = conversation.best_so_far(journal.events)
    event = journal.event()
    event.completed.output.text = text
    event.completed.citations.extend(citations)
    await journal.append(event, state=task_pb2.TASK_STATE_PARTIAL, notes=[note])


async def _degrade(journal: Journal, code: str, text: str) -> None:
    event = journal.event()
    event.degraded.note.CopyFrom(TaskNote(code=code, text=text))
    await journal.append(event, notes=[event.degraded.note])
