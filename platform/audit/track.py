"""What is kept of an open task between its events."""

from dataclasses import dataclass, field
from typing import Final

from agentmesh.coordinator.v1 import task_pb2

# The depth of a task whose submission was not seen.
UNKNOWN_DEPTH: Final = -1


@dataclass(frozen=True, slots=True)
class ChildEnd:
    """How a child task ended, by its own log."""

    state: task_pb2.TaskState
    # Encoded, for comparison.
    usage: bytes


@dataclass(slots=True)
class Track:
    """A task after its last event so far; under a kilobyte, however long its log is.

    Dead letters that nobody discarded count as open: they can be redriven.
    """

    # Of the last event.
    sequence: int
    stream_sequence: int
    # Encoded, which takes a fifth of the message's memory.
    status: bytes
    state: task_pb2.TaskState
    # How many tasks stand above it.
    depth: int = UNKNOWN_DEPTH
    parent_task: str = ""
    # The event that last made it runnable; 0 where that was not seen.
    runnable_sequence: int = 0
    # The last token of that event's subject.
    queue: str = ""
    # Who wrote the latest `started`, and its number; empty and 0 where that was not seen.
    starter: str = ""
    start_sequence: int = 0
    # Whether the present wait has a time at which a coordinator ends it.
    timed_wait: bool = False
    # Hashes of the idempotency keys of announced, and of recorded, tool calls.
    tool_intents: set[int] = field(default_factory=set[int])
    tool_keys: set[int] = field(default_factory=set[int])
    # By name, since this task began.
    child_ends: dict[str, ChildEnd] = field(default_factory=dict[str, ChildEnd])
