"""How the place where a model is served is doing, as models are listed and checked."""

from dataclasses import dataclass
from enum import IntEnum
from typing import Protocol

from agentmesh.reasoning.v1 import model_pb2


class Breaker(IntEnum):
    """Where a breaker stands, for all processes together; the values are the contract's."""

    CLOSED = model_pb2.BREAKER_STATE_CLOSED
    OPEN = model_pb2.BREAKER_STATE_OPEN
    HALF_OPEN = model_pb2.BREAKER_STATE_HALF_OPEN


@dataclass(frozen=True, slots=True)
class EndpointState:
    """What is known of a model's endpoint without asking it."""

    # None for models that have no breaker.
    breaker: Breaker | None = None
    # Why it is not used, or used less, in a sentence; empty where nothing is wrong.
    reason: str = ""
    # Whether it cannot be used now, whatever its breaker says.
    unavailable: bool = False


class EndpointStates(Protocol):
    """Where the states are looked up. Nothing is asked, so it takes no time."""

    def state(self, model: str) -> EndpointState:
        """The state of a model's endpoint, by the model's name in the mesh."""
        ...
