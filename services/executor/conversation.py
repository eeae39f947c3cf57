"""The conversation of a task, rebuilt from its log."""

from collections.abc import Container, Iterable, Sequence

from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import Citation, Message, Part, ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput, TaskOutput


def text_message(role: conversation_pb2.Role, text: str) -> Message:
    """A message of one text."""
    return Message(role=role, parts=[Part(text=text)])


def opening(agent: AgentSpec, earlier: Sequence[Message], task: Task) -> list[Message]:
    """What comes before the first step: instructions, the session so far, the request."""
    messages = [text_message(conversation_pb2.ROLE_SYSTEM, agent.instructions)]
    messages.extend(earlier)
    messages.append(request(task))
    return messages


def request(task: Task) -> Message:
    """The task's input as a message."""
    return text_message(conversation_pb2.ROLE_USER, words(task.input))


def words(said: TaskInput | TaskOutput) -> str:
    """What was said, data included, as a model reads it."""
    if not said.HasField("data"):
        return said.text
    data = json_format.MessageToJson(said.data, indent=None)
    return f"{said.text}\n\n{data}" if said.text else data


def steps(events: Iterable[TaskEvent]) -> list[Message]:
    """What models and tools said so far."""
    messages: list[Message] = []
    for event in events:
        match event.WhichOneof("kind"):
            case "model_called":
                messages.append(event.model_called.message)
            case "tool_called":
                messages.append(
                    Message(role=conversation_pb2.ROLE_TOOL, tool_result=event.tool_called.result)
                )
            case _:
                pass
    return messages


def with_unique_calls(message: Message) -> Message:
    """The message as it is recorded: each of its calls has an id of its own.

    A model may leave ids out or give one twice. What is done about a call is
    found again by its id, so two calls must not share one.
    """
    recorded = Message()
    recorded.CopyFrom(message)
    taken = {call.call_id for call in recorded.tool_calls}
    used: set[str] = set()
    for index, call in enumerate(recorded.tool_calls):
        if not call.call_id or call.call_id in used:
            call.call_id = _free_id(call.call_id or "call", index, taken)
            taken.add(call.call_id)
        used.add(call.call_id)
    return recorded


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
