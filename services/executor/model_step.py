"""Asks a model for a task's next step."""

from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Protocol

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ModelCalled, ModelPhase
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshkit.clock import Clock
from meshkit.frozen import frozen
from services.executor import attempts
from services.executor.journal import Journal
from services.executor.policies import Policies
from services.executor.step_limit import step_limit


@dataclass(frozen=True, slots=True)
class Room:
    """What the models that may be asked have room for, in tokens."""

    # A request and its answer together; 0 if no model says.
    context_tokens: int
    # An answer; 0 if no model says.
    output_tokens: int


class Models(Protocol):
    """Answers conversations."""

    async def room(self, tier: tier_pb2.ModelTier) -> Room:
        """The smallest of the tier's models; of all models, if it is unspecified."""
        ...

    async def generate(self, request: reasoning.GenerateRequest) -> reasoning.GenerateResponse: ...

    async def generate_stream(
        self, request: reasoning.GenerateRequest, on_text: Callable[[str], Awaitable[None]]
    ) -> reasoning.GenerateResponse: ...


class Words(Protocol):
    """Passes on what a model says while it is still speaking."""

    async def say(self, journal: Journal, step: int, text: str) -> None: ...


@frozen
class Said:
    """A model's answer, and how long it took."""

    answer: reasoning.GenerateResponse
    seconds: float

    def note(self, called: ModelCalled, step: int, phase: ModelPhase) -> None:
        """Fills in what is recorded of the call, but for what the model said."""
        answer = self.answer
        called.step = step
        called.phase = phase
        called.model = answer.model
        called.tier = answer.tier
        if answer.cache > reasoning.CACHE_OUTCOME_MISS:
            called.cache = reasoning.CacheOutcome.Name(answer.cache).removeprefix("CACHE_OUTCOME_")
        called.duration.FromNanoseconds(int(self.seconds * 1e9))


@dataclass(frozen=True, slots=True)
class ModelStep:
    """Calls of models within the time of a step."""

    models: Models
    words: Words
    clock: Clock
    policies: Policies

    async def ask(
        self, journal: Journal, request: reasoning.GenerateRequest, *, aloud: bool
    ) -> Said:
        """The model's next message; `aloud`, its words are passed on to whoever waits for them.

        Raises:
            MeshError: The call failed, or took too long.
        """
        step = journal.status.steps + 1
        begun = self.clock.monotonic_seconds()
        with step_limit(self.policies, journal):
            # An answer whose first words are out comes from its model or not at all. Once that
            # has failed, whole ones are asked for, which another model may give.
            is_heard = aloud and journal.status.lane == tier_pb2.LANE_INTERACTIVE
            if is_heard and attempts.counted(journal.events) <= 1:
                answer = await self.models.generate_stream(
                    request, lambda text: self.words.say(journal, step, text)
                )
            else:
                answer = await self.models.generate(request)
        return Said(answer, self.clock.monotonic_seconds() - begun)
