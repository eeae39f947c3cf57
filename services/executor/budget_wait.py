"""A task that a budget puts off: nothing failed, and it says what it waits for."""

from agentmesh.coordinator.v1.task_pb2 import TaskNote
from meshkit.errors import MeshError, RateLimited


def is_put_off(error: MeshError) -> bool:
    """Whether a budget slows the call down, so that it is made later."""
    return isinstance(error, RateLimited) and "budget" in error.metadata


def note_of(error: MeshError) -> TaskNote:
    """The same however often the task comes back: it is told once."""
    budget = error.metadata["budget"]
    return TaskNote(
        code="BUDGET_WAIT",
        text=f"Put off by the budget {budget}, which slows down all but interactive work.",
    )
