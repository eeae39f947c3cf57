"""The conversation of a task, rebuilt from its log."""

from collections.abc import Container, Sequence

from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Message, Part, ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput, TaskOutput


def text_message(role: conversation_pb2.Role, text: str) -> Message:
    """A message of one text."""
    return Message(role=role, parts=[Part(text=text)])


def request(task: Task) -> Message:
    """The task's input as a message."""
    return text_message(conversation_pb2.ROLE_USER, words(task.input))


def words(said: TaskInput | TaskOutput) -> str:
    """What was said, data included, as a model reads it."""
    if not said.HasField("data"):
        return said.text
    data = json_format.MessageToJson(said.data, indent=None)
    return f"{said.text}\n\n{data}" if said.text else data


def tell_calls_apart(message: Message) -> None:
    """Gives each call of a model's message an id of its own, as it is recorded.

    A model may leave ids out or give one twice. What is done about a call is
    found again by its id, so two calls must not share one.
    """
    taken = {call.call_id for call in message.tool_calls}
    used: set[str] = set()
    for index, call in enumerate(message.tool_calls):
        if not call.call_id or call.call_id in used:
            call.call_id = _free_id(call.call_id or "call", index, taken)
            taken.add(call.call_id)
        used.add(call.call_id)


def pending_calls(events: Sequence[TaskEvent]) -> tuple[int, list[ToolCall]]:
    """The calls of the last model message that no tool has answered yet, and the step it was."""
    answered: set[str] = set()
    for event in reversed(events):
        match event.WhichOneof("kind"):
            case "tool_called":
                answered.add(event.tool_called.result.call_id)
            case "model_called":
                called = event.model_called
                calls = called.message.tool_calls
                return called.step, [call for call in calls if call.call_id not in answered]
            case _:
                pass
    return 0, []


def _free_id(stem: str, index: int, taken: Container[str]) -> str:
    candidate = f"{stem}-{index}"
    while candidate in taken:
        candidate += f"-{index}"
    return candidate


def text_of(message: Message) -> str:
    """The words of a message."""
    return "".join(part.text for part in message.parts)
