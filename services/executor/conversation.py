"""The conversation of a task, rebuilt from its log."""

from collections.abc import Container, Iterable, Sequence
from typing import Protocol

from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Citation, Message, Part, ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput, TaskOutput


class Messages(Protocol):
    """The messages of a request: filled in where they are, since each copy costs."""

    def add(self, *, role: conversation_pb2.Role = ...) -> Message: ...


def text_message(role: conversation_pb2.Role, text: str) -> Message:
    """A message of one text."""
    return Message(role=role, parts=[Part(text=text)])


def begin(messages: Messages, agent: AgentSpec, earlier: Iterable[Message], task: Task) -> None:
    """Adds what comes before the first step: instructions, the session so far, the request."""
    messages.add(role=conversation_pb2.ROLE_SYSTEM).parts.add(text=agent.instructions)
    for message in earlier:
        messages.add().CopyFrom(message)
    messages.add(role=conversation_pb2.ROLE_USER).parts.add(text=words(task.input))


def request(task: Task) -> Message:
    """The task's input as a message."""
    return text_message(conversation_pb2.ROLE_USER, words(task.input))


def words(said: TaskInput | TaskOutput) -> str:
    """What was said, data included, as a model reads it."""
    if not said.HasField("data"):
        return said.text
    data = json_format.MessageToJson(said.data, indent=None)
    return f"{said.text}\n\n{data}" if said.text else data


def go_on(messages: Messages, events: Iterable[TaskEvent]) -> None:
    """Adds what models and tools said in `events`."""
    for event in events:
        match event.WhichOneof("kind"):
            case "model_called":
                messages.add().CopyFrom(event.model_called.message)
            case "tool_called":
                message = messages.add(role=conversation_pb2.ROLE_TOOL)
                message.tool_result.CopyFrom(event.tool_called.result)
            case _:
                pass


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


def best_so_far(events: Sequence[TaskEvent]) -> tuple[str, list[Citation]]:
    """The best answer when a limit ends the task: the model's words, else what tools found."""
    found: list[str] = []
    citations: list[Citation] = []
    for event in events:
        match event.WhichOneof("kind"):
            case "model_called":
                text = text_of(event.model_called.message)
                if text:
                    found, citations = [text], []
            case "tool_called":
                result = event.tool_called.result
                if not result.is_error:
                    found.append(result.text)
                    citations.extend(result.citations)
            case _:
                pass
    return "\n\n".join(found), citations
