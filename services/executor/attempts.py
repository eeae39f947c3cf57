"""How many attempts of a task count against its lane's limit."""

from collections.abc import Sequence

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.errors import MeshError, ShuttingDown, from_status
from services.executor.budget_wait import is_put_off


def counted(events: Sequence[TaskEvent]) -> int:
    """Attempts since the task was submitted or redriven.

    One that ended because its executor was told to stop, or because a budget puts
    it off, is nobody's failure, and one that ended in a wait is none.
    """
    attempts = 0
    for event in events:
        match event.WhichOneof("kind"):
            case "started":
                attempts += 1
            case "redriven":
                attempts = 0
            case "retried" if _is_nobodys_failure(from_status(event.retried.error)):
                attempts -= 1
            case "waiting":
                attempts -= 1
            case _:
                pass
    return attempts


def deaths_in_this_step(events: Sequence[TaskEvent]) -> int:
    """How often an executor took the task since its last step and was not heard of again.

    An attempt that failed, or that a stop ended, is no death; but neither does
    it undo the deaths before it: the step is still the same.
    """
    deaths = 0
    is_told = False
    for event in reversed(events):
        match event.WhichOneof("kind"):
            case "started":
                deaths += not is_told
                is_told = False
            case "retried":
                is_told = True
            case "tool_intended" | "degraded" | "cancel_requested":
                # These come before a step, and do not end it.
                pass
            case _:
                break
    return deaths


def _is_nobodys_failure(error: MeshError) -> bool:
    return isinstance(error, ShuttingDown) or is_put_off(error)
