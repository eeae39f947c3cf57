"""What one attempt asks its model: each request is the one before it, and what was said since."""

from collections.abc import Mapping, Sequence
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, ToolResult
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec
from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_pb2
from services.executor import conversation
from services.executor.children import least
from services.executor.context_window import ContextWindow
from services.executor.journal import Journal
from services.executor.model_step import Room
from services.executor.pattern import Ask

DEFAULT_FULL_MESSAGES: Final = 5
_BYTES_PER_TOKEN: Final = 4
# Where no model says how much it takes.
_UNKNOWN_ROOM: Final = 100_000
# An answer gets this part of a model's room, where nothing limits it to less.
_MOST_OF_ROOM: Final = 4
# Tokens are estimated: so much of the room stays free.
_USED_SHARE: Final = 0.9
# Reasoning takes no larger conversation.
_MOST_TOKENS: Final = 2 * 1024 * 1024 // _BYTES_PER_TOKEN
# For what a request holds beside messages and tools.
_OVERHEAD: Final = 64


class ModelRequests:
    """Adds to one request step by step, so that a step builds only what is new."""

    def __init__(
        self,
        task: Task,
        agent: AgentSpec,
        tools: Mapping[str, tool_pb2.Tool],
        earlier: Sequence[Message],
        room: Room,
    ) -> None:
        """A request with what comes before the first step.

        Args:
            task: What is asked for.
            agent: Who is asked.
            tools: What the model may call.
            earlier: What was said in the session before the task.
            room: What the models take.
        """
        self._task: Final = task
        self._told_left_out = 0
        name = agent_id(agent.name)
        self._request: Final = reasoning.GenerateRequest(
            tier=agent.tier,
            task_type=task.task_type or name,
            agent=name,
            session=task.session,
            lane=task.lane,
        )
        self._request.task_budget.task = task.name
        for tool in tools.values():
            spec = self._request.tools.add(name=tool.tool_id, description=tool.description)
            spec.parameters.CopyFrom(tool.parameters)
        self._tools_tokens: Final = sum(
            -(-spec.ByteSize() // _BYTES_PER_TOKEN) for spec in self._request.tools
        )
        request = conversation.words(task.input)
        self._window: Final = ContextWindow(
            self._request.messages,
            limit_tokens=_limit(agent, room) - self._tools_tokens,
            full_messages=agent.context.full_messages or DEFAULT_FULL_MESSAGES,
            topic=request,
        )
        self._window.add_text(conversation_pb2.ROLE_SYSTEM, agent.instructions, is_pinned=True)
        for message in earlier:
            self._window.add(message)
        self._window.add_text(conversation_pb2.ROLE_USER, request, is_pinned=True)

    @property
    def tokens(self) -> int:
        """About how many tokens the next request has."""
        return self._window.tokens + self._tools_tokens

    def tell(self, instruction: str) -> None:
        """Adds what the model is told; it stays as it is until it is `done`."""
        self._window.add_text(conversation_pb2.ROLE_USER, instruction, is_pinned=True)

    def done(self) -> None:
        """The last thing that the model was told is of the past."""
        self._window.unpin_last()

    def add(self, message: Message, *, is_pinned: bool = False) -> None:
        """Adds what a model said."""
        self._window.add(message, is_pinned=is_pinned)

    def add_result(self, result: ToolResult) -> None:
        """Adds what a tool returned."""
        self._window.add_result(result)

    def next(self, journal: Journal, ask: Ask, *, answer_tokens: int) -> reasoning.GenerateRequest:
        """The request for the task's next step. The one after that is the same message.

        Raises:
            TooLarge: What the model must be told has no room.
        """
        self._window.check()
        self._say_what_is_left_out()
        request, status, task = self._request, journal.status, self._task
        request.spend_key = f"{journal.task_id}/{status.steps + 1}/{journal.start_sequence}"
        request.parameters.output_schema = ask.output_schema
        request.parameters.max_output_tokens = answer_tokens
        if task.budget_micros:
            request.task_budget.limit_micros = task.budget_micros
            request.task_budget.spent_micros = status.usage.cost_micros
        return request

    def _say_what_is_left_out(self) -> None:
        if self._window.left_out == self._told_left_out:
            return
        self._told_left_out = self._window.left_out
        parts = self._request.messages[0].parts
        del parts[1:]
        parts.add(text=f"{self._told_left_out} older messages of this conversation are left out.")


def agent_id(name: str) -> str:
    """`assistant` of `tenants/acme/agents/assistant@1`."""
    return name.rpartition("/")[2].partition("@")[0]


def _limit(agent: AgentSpec, room: Room) -> int:
    """The most tokens of a conversation and its tools."""
    answer = least(
        agent.limits.max_output_tokens,
        room.output_tokens,
        room.context_tokens // _MOST_OF_ROOM,
    )
    of_model = _UNKNOWN_ROOM
    if room.context_tokens:
        of_model = int((room.context_tokens - answer) * _USED_SHARE)
    return min(least(agent.context.max_tokens, of_model), _MOST_TOKENS) - _OVERHEAD
