"""What is kept of an open task between its events."""

from dataclasses import dataclass
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
    """A task after its last event so far: some 400 bytes, and 100 for each tool call and child.

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
    # The names of the children that the last wait was for.
    awaited: tuple[str, ...] = ()
    # Hashes of the idempotency keys of announced, and of recorded, tool calls. None
    # until there is one: empty sets would take more than all the rest.
    tool_intents: set[int] | None = None
    tool_keys: set[int] | None = None
    # How children ended, by their names, since this task began.
    child_ends: dict[str, ChildEnd] | None = None

    def intends(self, key: str) -> bool:
        """Whether the tool call under `key` was announced."""
        return self.tool_intents is not None and hash(key) in self.tool_intents

    def note_intent(self, key: str) -> None:
        """Notes that the tool call under `key` was announced."""
        if self.tool_intents is None:
            self.tool_intents = set()
        self.tool_intents.add(hash(key))

    def note_call(self, key: str) -> bool:
        """Notes that the tool call under `key` was made; whether that is new."""
        if self.tool_keys is None:
            self.tool_keys = set()
        known = hash(key) in self.tool_keys
        self.tool_keys.add(hash(key))
        return not known

    def note_child(self, name: str, end: ChildEnd) -> None:
        """Notes how a child ended."""
        if self.child_ends is None:
            self.child_ends = {}
        self.child_ends[name] = end

    def child_end(self, name: str) -> ChildEnd | None:
        """How a child ended; None where that was not seen."""
        return None if self.child_ends is None else self.child_ends.get(name)
