"""Where tasks stand, as words and as kinds of ends."""

from typing import Final

from agentmesh.coordinator.v1.task_pb2 import Task, TaskState

WAITING: Final = TaskState.TASK_STATE_WAITING
ENDED: Final = frozenset(
    {
        TaskState.TASK_STATE_SUCCEEDED,
        TaskState.TASK_STATE_PARTIAL,
        TaskState.TASK_STATE_FAILED,
        TaskState.TASK_STATE_CANCELLED,
        TaskState.TASK_STATE_DEAD_LETTERED,
    }
)


def good(task: Task) -> bool:
    """Whether the task ended with a result."""
    return task.state in (TaskState.TASK_STATE_SUCCEEDED, TaskState.TASK_STATE_PARTIAL)


def state_name(state: int) -> str:
    """`SUCCEEDED`; a number where this version has no name for it."""
    return (
        TaskState.Name(state).removeprefix("TASK_STATE_")
        if state in TaskState.values()
        else str(state)
    )
