"""What a tool is, and what it is given and gives back."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from enum import Enum
from typing import Protocol

from agentmesh.common.v1.conversation_pb2 import Citation

# What JSON can say.
Json = None | bool | int | float | str | list["Json"] | dict[str, "Json"]


class Effect(Enum):
    """What a repeat of a tool call does."""

    # It only reads: repeating is harmless.
    READ_ONLY = "read only"
    # It changes something; a repeat with the same key changes nothing more.
    IDEMPOTENT = "idempotent"
    # It changes something, and each call does it again.
    UNSAFE = "unsafe"


@dataclass(frozen=True, slots=True)
class ToolSpec:
    """A tool as models and callers see it."""

    # The name that models use.
    id: str
    # What it does and when to use it, for the model.
    description: str
    # JSON Schema (2020-12) of its arguments, an object.
    parameters: Mapping[str, Json]
    effect: Effect
    timeout_seconds: float = 10.0
    # JSON Schema of the answer's data.
    result_schema: Mapping[str, Json] | None = None


@dataclass(frozen=True, slots=True)
class Invocation:
    """A call whose arguments fit the schema."""

    tenant: str
    arguments: Mapping[str, Json]
    # The same across attempts of the same call; empty for tools that only read.
    idempotency_key: str = ""
    # The session on whose behalf; empty for none.
    session: str = ""


@dataclass(frozen=True, slots=True)
class Answer:
    """What a tool answered."""

    # As a model reads it; the reason, where it failed.
    text: str
    is_error: bool = False
    # As a program reads it.
    data: Mapping[str, Json] | None = None
    # The passages that the answer rests on.
    citations: Sequence[Citation] = field(default_factory=tuple[Citation, ...])


class ToolFault(Exception):
    """A tool could not do what it was asked. The text is for the model: why, and what would do."""


class Tool(Protocol):
    """Something an agent can call."""

    @property
    def spec(self) -> ToolSpec:
        """What it is; always the same."""
        ...

    async def execute(self, invocation: Invocation) -> Answer:
        """Does it. Raises ToolFault where that cannot be done; a MeshError means that
        something which the tool needs is away."""
        ...
