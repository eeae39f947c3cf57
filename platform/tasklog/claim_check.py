"""Large content stands in the object store, and only its digest in the log.

A log that repeats large texts cannot be read quickly and breaks the broker's
limit on a message; CLAIM_CHECK_BYTES is where content moves out.
"""

from typing import Protocol, TypeVar

from google.protobuf.message import Message as Proto

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import BlobRef
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.constants import CLAIM_CHECK_BYTES

_T = TypeVar("_T", bound=Proto)


class BlobStore(Protocol):
    """Keeps content under its digest."""

    async def put_blob(self, content: bytes, media_type: str) -> BlobRef:
        """Stores `content`; the same content again is stored once."""
        ...

    async def get_blob(self, reference: BlobRef) -> bytes:
        """What was stored; CorruptData if it is gone or does not match its digest."""
        ...


async def check_in(event: TaskEvent, blobs: BlobStore) -> TaskEvent:
    """The event as the log keeps it: its large content moved into `blobs`.

    A small event is answered as it is; `event` itself never changes.
    """
    if event.ByteSize() <= CLAIM_CHECK_BYTES:
        return event
    small = TaskEvent()
    small.CopyFrom(event)
    await _move(small, blobs)
    return small


async def _move(event: TaskEvent, blobs: BlobStore) -> None:
    match event.WhichOneof("kind"):
        case "submitted":
            submitted = event.submitted
            if submitted.task.input.ByteSize() > CLAIM_CHECK_BYTES:
                submitted.input_blob.CopyFrom(await _put(submitted.task.input, blobs))
                submitted.task.ClearField("input")
        case "model_called":
            await _model_in(event.model_called, blobs)
        case "tool_called":
            called = event.tool_called
            if called.result.ByteSize() > CLAIM_CHECK_BYTES:
                called.result_blob.CopyFrom(await _put(called.result, blobs))
                called.ClearField("result")
        case "completed":
            completed = event.completed
            if completed.HasField("model_called"):
                await _model_in(completed.model_called, blobs)
            if completed.output.ByteSize() > CLAIM_CHECK_BYTES:
                completed.output.CopyFrom(
                    task_pb2.TaskOutput(blob=await _put(completed.output, blobs))
                )
        case "resumed":
            resumed = event.resumed
            children = task_event_pb2.ChildResults(children=resumed.children)
            if children.ByteSize() > CLAIM_CHECK_BYTES:
                resumed.children_blob.CopyFrom(await _put(children, blobs))
                resumed.ClearField("children")
        case _:
            pass


async def check_out(event: TaskEvent, blobs: BlobStore) -> None:
    """Brings back what `check_in` moved out of `event`, in place."""
    match event.WhichOneof("kind"):
        case "submitted":
            submitted = event.submitted
            if submitted.HasField("input_blob"):
                submitted.task.input.CopyFrom(
                    await _get(submitted.input_blob, task_pb2.TaskInput(), blobs)
                )
        case "model_called":
            await _model_out(event.model_called, blobs)
        case "tool_called":
            called = event.tool_called
            if called.HasField("result_blob"):
                called.result.CopyFrom(
                    await _get(called.result_blob, conversation_pb2.ToolResult(), blobs)
                )
        case "completed":
            completed = event.completed
            if completed.HasField("model_called"):
                await _model_out(completed.model_called, blobs)
            if completed.output.HasField("blob"):
                output = await _get(completed.output.blob, task_pb2.TaskOutput(), blobs)
                completed.output.CopyFrom(output)
        case "resumed":
            resumed = event.resumed
            if resumed.HasField("children_blob"):
                results = await _get(resumed.children_blob, task_event_pb2.ChildResults(), blobs)
                resumed.children.extend(results.children)
        case _:
            pass


async def _model_in(called: task_event_pb2.ModelCalled, blobs: BlobStore) -> None:
    if called.message.ByteSize() > CLAIM_CHECK_BYTES:
        called.message_blob.CopyFrom(await _put(called.message, blobs))
        called.ClearField("message")


async def _model_out(called: task_event_pb2.ModelCalled, blobs: BlobStore) -> None:
    if called.HasField("message_blob"):
        called.message.CopyFrom(await _get(called.message_blob, conversation_pb2.Message(), blobs))


async def _put(content: Proto, blobs: BlobStore) -> BlobRef:
    media_type = f"application/x-protobuf; type={content.DESCRIPTOR.full_name}"
    return await blobs.put_blob(content.SerializeToString(deterministic=True), media_type)


async def _get(ref: BlobRef, into: _T, blobs: BlobStore) -> _T:
    into.ParseFromString(await blobs.get_blob(ref))
    return into
