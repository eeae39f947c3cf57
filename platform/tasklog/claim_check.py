"""Large content stands in the object store, and only its digest in the log.

A log that repeats large texts cannot be read quickly and breaks the broker's
limit on a message; CLAIM_CHECK_BYTES is where content moves out. What moved
out belongs to the task, its owner, and goes when the task does.
"""

from collections.abc import Iterator
from typing import Protocol, TypeVar

from google.protobuf.message import Message as Proto

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.constants import CLAIM_CHECK_BYTES
from tasklog.formats import EVENTS

_T = TypeVar("_T", bound=Proto)


class BlobStore(Protocol):
    """Keeps content under its digest."""

    async def put_blob(self, owner: str, content: bytes, media_type: str) -> BlobRef:
        """Stores `content`; the same content of the same owner again is stored once."""
        ...

    async def get_blob(self, owner: str, reference: BlobRef) -> bytes:
        """What was stored; CorruptData if it is gone or does not match its digest."""
        ...


class _Shelf:
    """The content of one owner."""

    def __init__(self, blobs: BlobStore, owner: str) -> None:
        self._blobs = blobs
        self._owner = owner

    async def put(self, content: Proto) -> BlobRef:
        media_type = f"application/x-protobuf; type={content.DESCRIPTOR.full_name}"
        return await self._blobs.put_blob(
            self._owner, content.SerializeToString(deterministic=True), media_type
        )

    async def get(self, reference: BlobRef, into: _T) -> _T:
        into.ParseFromString(await self._blobs.get_blob(self._owner, reference))
        return into


async def check_in(event: TaskEvent, blobs: BlobStore, owner: str) -> TaskEvent:
    """The event as the log keeps it: its large content moved into `blobs`, for `owner`.

    A small event is answered as it is; `event` itself never changes.
    """
    if event.ByteSize() <= CLAIM_CHECK_BYTES:
        return event
    small = TaskEvent()
    small.CopyFrom(event)
    await _move(small, _Shelf(blobs, owner))
    return small


async def _move(event: TaskEvent, shelf: _Shelf) -> None:
    match event.WhichOneof("kind"):
        case "submitted":
            submitted = event.submitted
            if submitted.task.input.ByteSize() > CLAIM_CHECK_BYTES:
                submitted.input_blob.CopyFrom(await shelf.put(submitted.task.input))
                submitted.task.ClearField("input")
        case "model_called":
            await _model_in(event.model_called, shelf)
        case "tool_called":
            called = event.tool_called
            if called.result.ByteSize() > CLAIM_CHECK_BYTES:
                called.result_blob.CopyFrom(await shelf.put(called.result))
                called.ClearField("result")
        case "completed":
            completed = event.completed
            if completed.HasField("model_called"):
                await _model_in(completed.model_called, shelf)
            if completed.output.ByteSize() > CLAIM_CHECK_BYTES:
                completed.output.CopyFrom(
                    task_pb2.TaskOutput(blob=await shelf.put(completed.output))
                )
        case "resumed":
            resumed = event.resumed
            children = task_event_pb2.ChildResults(children=resumed.children)
            if children.ByteSize() > CLAIM_CHECK_BYTES:
                resumed.children_blob.CopyFrom(await shelf.put(children))
                resumed.ClearField("children")
        case _:
            pass


async def check_out(event: TaskEvent, blobs: BlobStore, owner: str) -> None:
    """Brings back what `check_in` moved out of `event`, in place.

    Raises:
        CorruptData: Content is gone or damaged. Its reference stays in its place.
    """
    await _bring_back(event, _Shelf(blobs, owner))
    # What was brought back has the form in which it was written.
    EVENTS.upcast(event)


async def _bring_back(event: TaskEvent, shelf: _Shelf) -> None:
    match event.WhichOneof("kind"):
        case "submitted":
            submitted = event.submitted
            if submitted.HasField("input_blob"):
                submitted.task.input.CopyFrom(
                    await shelf.get(submitted.input_blob, task_pb2.TaskInput())
                )
        case "model_called":
            await _model_out(event.model_called, shelf)
        case "tool_called":
            called = event.tool_called
            if called.HasField("result_blob"):
                called.result.CopyFrom(
                    await shelf.get(called.result_blob, conversation_pb2.ToolResult())
                )
        case "completed":
            completed = event.completed
            if completed.output.HasField("blob"):
                output = await shelf.get(completed.output.blob, task_pb2.TaskOutput())
                completed.output.CopyFrom(output)
            # Last: where this is lost, the task's output is still there.
            if completed.HasField("model_called"):
                await _model_out(completed.model_called, shelf)
        case "resumed":
            resumed = event.resumed
            if resumed.HasField("children_blob"):
                results = await shelf.get(resumed.children_blob, task_event_pb2.ChildResults())
                resumed.children.extend(results.children)
        case _:
            pass


async def _model_in(called: task_event_pb2.ModelCalled, shelf: _Shelf) -> None:
    if called.message.ByteSize() > CLAIM_CHECK_BYTES:
        called.message_blob.CopyFrom(await shelf.put(called.message))
        called.ClearField("message")


async def _model_out(called: task_event_pb2.ModelCalled, shelf: _Shelf) -> None:
    if called.HasField("message_blob"):
        called.message.CopyFrom(await shelf.get(called.message_blob, conversation_pb2.Message()))


def references(event: TaskEvent) -> Iterator[BlobRef]:
    """What `event`, as the log keeps it, holds elsewhere."""
    holders: tuple[tuple[Proto, str], ...]
    match event.WhichOneof("kind"):
        case "submitted":
            holders = ((event.submitted, "input_blob"),)
        case "model_called":
            holders = ((event.model_called, "message_blob"),)
        case "tool_called":
            holders = ((event.tool_called, "result_blob"),)
        case "completed":
            completed = event.completed
            holders = ((completed.model_called, "message_blob"), (completed.output, "blob"))
        case "resumed":
            holders = ((event.resumed, "children_blob"),)
        case _:
            holders = ()
    for holder, field in holders:
        if holder.HasField(field):
            yield getattr(holder, field)
