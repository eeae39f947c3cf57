"""How a task ends with a result, whatever its pattern."""

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import TaskNote
from services.executor.best_so_far import best_so_far
from services.executor.journal import Journal


async def finish_partial(journal: Journal, note: TaskNote) -> None:
    """Ends a task with the best result so far and what is missing.

    Raises:
        Fenced, CancelRequestedError: As Journal.append.
    """
    text, citations = best_so_far(journal.events)
    event = journal.event()
    event.completed.output.text = text
    event.completed.citations.extend(citations)
    await journal.append(event, state=task_pb2.TASK_STATE_PARTIAL, notes=[note])


async def degrade(journal: Journal, code: str, text: str) -> None:
    """Records that something is done in a poorer way from here on.

    Raises:
        Fenced, CancelRequestedError: As Journal.append.
    """
    event = journal.event()
    event.degraded.note.CopyFrom(TaskNote(code=code, text=text))
    await journal.append(event, notes=[event.degraded.note])
