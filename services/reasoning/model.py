"""What is known of a model before it is called."""

from dataclasses import dataclass
from enum import IntEnum

from agentmesh.common.v1 import tier_pb2
from agentmesh.reasoning.v1 import model_pb2


class Tier(IntEnum):
    """How capable, and how dear; the values are the contract's."""

    FAST = tier_pb2.MODEL_TIER_FAST
    BALANCED = tier_pb2.MODEL_TIER_BALANCED
    POWERFUL = tier_pb2.MODEL_TIER_POWERFUL


class Kind(IntEnum):
    """What a model is for; the values are the contract's."""

    GENERATOR = model_pb2.MODEL_KIND_GENERATOR
    EMBEDDER = model_pb2.MODEL_KIND_EMBEDDER


class State(IntEnum):
    """Whether a model can be used; the values are the contract's."""

    READY = model_pb2.MODEL_STATE_READY
    UNAVAILABLE = model_pb2.MODEL_STATE_UNAVAILABLE
    NOT_CONFIGURED = model_pb2.MODEL_STATE_NOT_CONFIGURED


@dataclass(frozen=True, slots=True)
class ModelSpec:
    """A model: its name, who serves it, what it can take."""

    name: str
    provider: str
    kind: Kind
    # The most tokens of a request and its answer together.
    context_tokens: int
    # What a user should know.
    description: str
    # The most tokens of an answer; 0 for embedders.
    max_output_tokens: int = 0
    # Length of its vectors; 0 for generators.
    dimensions: int = 0
    # False for models that are listed and cannot be called; their description says why.
    callable: bool = True
