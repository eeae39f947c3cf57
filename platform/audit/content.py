"""Large content lies outside the log."""

from collections.abc import Iterator
from typing import Final

from google.protobuf.message import Message as Proto

from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1.task_event_pb2 import ChildResults, ModelCalled
from audit.entry import Entry
from audit.finding import Finding, Invariant, finding
from meshkit.constants import CLAIM_CHECK_BYTES

# Events of these kinds may have a part in the object store.
KINDS: Final = frozenset({"submitted", "model_called", "tool_called", "resumed", "completed"})


def check(entry: Entry) -> list[Finding]:
    """A large event with a part in it that should have been moved out."""
    if entry.size_bytes <= CLAIM_CHECK_BYTES:
        return []
    return [
        finding(
            Invariant.CONTENT,
            entry.task,
            f"Event {entry.event.sequence} ({entry.kind}) holds {name} of {part.ByteSize()} bytes;"
            f" what is over {CLAIM_CHECK_BYTES} belongs into the object store.",
            entry.stream_sequence,
            remedy="Reading this task is slow, and its event may be near the broker's limit: find"
            " the writer that stores without the claim check.",
        )
        for name, part in _movable(entry)
        if part.ByteSize() > CLAIM_CHECK_BYTES
    ]


def references(entry: Entry) -> list[BlobRef]:
    """What the event keeps in the object store."""
    event = entry.event
    match entry.kind:
        case "submitted" if event.submitted.HasField("input_blob"):
            return [event.submitted.input_blob]
        case "model_called" if event.model_called.HasField("message_blob"):
            return [event.model_called.message_blob]
        case "tool_called" if event.tool_called.HasField("result_blob"):
            return [event.tool_called.result_blob]
        case "resumed" if event.resumed.HasField("children_blob"):
            return [event.resumed.children_blob]
        case "completed":
            completed = event.completed
            found = [completed.output.blob] if completed.output.HasField("blob") else []
            if completed.HasField("model_called") and completed.model_called.HasField(
                "message_blob"
            ):
                found.append(completed.model_called.message_blob)
            return found
        case _:
            return []


def _movable(entry: Entry) -> Iterator[tuple[str, Proto]]:
    event = entry.event
    match entry.kind:
        case "submitted":
            yield "an input", event.submitted.task.input
        case "model_called":
            yield from _of_model(event.model_called)
        case "tool_called":
            yield "a tool's result", event.tool_called.result
        case "completed":
            yield "an output", event.completed.output
            yield from _of_model(event.completed.model_called)
        case "resumed":
            yield "children's results", ChildResults(children=event.resumed.children)
        case _:
            return


def _of_model(called: ModelCalled) -> Iterator[tuple[str, Proto]]:
    yield "a model's message", called.message
