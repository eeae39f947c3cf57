"""The tokens that a task may still use."""

from typing import Final

from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent, TaskStatus
from agentmesh.coordinator.v1.task_pb2 import Task, TaskNote
from services.executor.children import least, tokens_used

# An answer of fewer is none.
_LEAST_ANSWER: Final = 16
_MODEL_KINDS: Final = frozenset({"model_called", "completed"})


class TokenLimit:
    """Counts what the model calls of one task use, as its log tells it."""

    def __init__(self, task: Task, agent: AgentSpec) -> None:
        self._own: Final = agent.limits.max_tokens
        self._family: Final = task.budget_tokens
        self._answer: Final = agent.limits.max_output_tokens
        self._used = 0

    def take(self, event: TaskEvent) -> None:
        """Counts what an event used, where that is limited."""
        if self._own and event.WhichOneof("kind") in _MODEL_KINDS:
            self._used += tokens_used(event.usage)

    def answer_tokens(self, status: TaskStatus, prompt_tokens: int) -> int | None:
        """The most tokens of the next answer: 0 for no limit; None if the call has no room.

        `prompt_tokens` is an estimate, so a call may pass the limit by what that is
        wrong by, and no call is made after it.
        """
        if not self._own and not self._family:
            return self._answer
        left = least(_left(self._own, self._used), _left(self._family, tokens_used(status.usage)))
        room = left - prompt_tokens
        return least(self._answer, room) if room >= _LEAST_ANSWER else None

    def reached(self, status: TaskStatus) -> TaskNote:
        """What the reader is told where there was no room."""
        limit = least(self._own, self._family)
        return TaskNote(
            code="TOKEN_LIMIT",
            text=f"Stopped at the limit of {limit:,} tokens, after {status.steps} steps;"
            " what follows from them is missing.",
        )


def _left(limit: int, used: int) -> int:
    """What is left of a limit, of which 0 is none; never 0 where there is one."""
    if not limit:
        return 0
    return limit - used or -1
