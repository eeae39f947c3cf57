"""What a generation is: what is asked, who pays, what comes back."""

from collections.abc import AsyncGenerator, Sequence
from enum import IntEnum
from typing import Protocol

from google.protobuf import struct_pb2

from agentmesh.common.v1 import conversation_pb2, tier_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit.frozen import frozen
from services.reasoning.model import ModelSpec, Tier


class StopReason(IntEnum):
    """Why a model stopped; the values are the contract's."""

    END = pb.STOP_REASON_END
    TOOL_CALLS = pb.STOP_REASON_TOOL_CALLS
    MAX_TOKENS = pb.STOP_REASON_MAX_TOKENS
    STOP_TEXT = pb.STOP_REASON_STOP_TEXT
    REFUSED = pb.STOP_REASON_REFUSED


@frozen
class Prompt:
    """What a model is given.

    Messages and tools are the contract's own and are only read: a copy of each
    into a class of ours would cost more than the cheapest model's answer.
    """

    messages: Sequence[conversation_pb2.Message]
    tools: Sequence[pb.ToolSpec]
    # The most tokens to produce; 0 for the model's limit.
    max_output_tokens: int = 0
    # From 0 to 2; None for the model's default.
    temperature: float | None = None
    stop: Sequence[str] = ()
    seed: int | None = None
    # JSON Schema that the answer must satisfy, as text; empty for prose.
    output_schema: str = ""


@frozen
class Spending:
    """Who spends, on what, under which cap."""

    tenant: str
    # The service or user that calls.
    caller: str
    # The same across repeats of the same call; empty where each call is charged.
    key: str = ""
    task_type: str = ""
    agent: str = ""
    session: str = ""
    # `tenants/{tenant}/tasks/{task}`; empty for none.
    task: str = ""
    # The task's own cap and what it has spent, in micro-USD; 0 for no cap.
    task_limit_micros: int = 0
    task_spent_micros: int = 0
    # The task's; the values are the contract's.
    lane: int = tier_pb2.LANE_UNSPECIFIED


@frozen
class GenerationRequest:
    """What a caller asks for."""

    prompt: Prompt
    # A model by name; empty to go by the tier.
    model: str
    # None for the default tier.
    tier: Tier | None
    spending: Spending


@frozen
class ModelCall:
    """A call of a model that was chosen."""

    prompt: Prompt
    model: ModelSpec
    # The tier for which the model was chosen.
    tier: Tier
    spending: Spending
    # The caller named the model, and wants no other one.
    named: bool = False
    # Made besides one that is under way already: only where a budget has room for it.
    spare: bool = False


@frozen
class Completion:
    """What a provider answered."""

    message: conversation_pb2.Message
    stop_reason: StopReason
    input_tokens: int
    output_tokens: int
    citations: Sequence[conversation_pb2.Citation] = ()
    # The part of `input_tokens` that the provider had cached.
    cached_input_tokens: int = 0
    # The answer as data, where there was an `output_schema`.
    data: struct_pb2.Struct | None = None


@frozen
class Generation:
    """A completion, with the model that made it and what it cost."""

    completion: Completion
    model: ModelSpec
    tier: Tier
    cost_micros: int = 0
    # What was done in a cheaper or poorer way, in sentences.
    degradations: tuple[str, ...] = ()


class Provider(Protocol):
    """Who runs one model: one adapter for each protocol. Fails as provider_failures.py says."""

    async def complete(self, prompt: Prompt) -> Completion:
        """The model's next message."""
        ...

    def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The text in pieces as it appears, then everything as one Completion."""
        ...


class Generator(Protocol):
    """Makes calls of chosen models; budgets, caches and fallbacks wrap each other as this."""

    async def generate(self, call: ModelCall) -> Generation:
        """Makes the call."""
        ...

    def stream(self, call: ModelCall) -> AsyncGenerator[str | Generation]:
        """Makes the call: the text in pieces, then everything as one Generation."""
        ...
