"""Calls one model with a few tokens, and says how that went."""

from collections.abc import Awaitable, Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass
from typing import Final

from agentmesh.common.v1 import conversation_pb2
from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import MeshError, ModelNotFound, ProviderFailed
from meshkit.time_limit import within
from services.reasoning.catalogue import Catalogue
from services.reasoning.embedding import Embeddings
from services.reasoning.generation import Generation, Generator, ModelCall, Prompt, Spending
from services.reasoning.model import Kind, ModelSpec, Tier
from services.reasoning.provider_failures import Failure, failure_of, provider_failure

# What a check spends is shown under this type of task.
TASK_TYPE: Final = "model-check"
_WORDS: Final = "Reply with the word OK."
# Some APIs refuse less.
_MOST_OUTPUT_TOKENS: Final = 16

# Vectors of texts, by the embedder of that name.
Embed = Callable[[Sequence[str], str], Awaitable[Embeddings]]


@dataclass(frozen=True, slots=True)
class Checked:
    """What a check found out."""

    model: ModelSpec
    # The lowest that has it; None for none, and for embedders.
    tier: Tier | None
    # Until it had answered or failed, the asking of the governor included.
    latency_seconds: float
    # Until the first piece of text; None where none came.
    first_token_seconds: float | None = None
    input_tokens: int = 0
    output_tokens: int = 0
    cost_micros: int = 0
    # Why it failed; None where it answered.
    error: MeshError | None = None


class ModelCheck:
    """Checks models one at a time; what that costs is charged like any other call."""

    def __init__(
        self,
        catalogue: Catalogue,
        generator: Generator,
        embed: Embed,
        *,
        timeout_seconds: float,
        clock: Clock,
    ) -> None:
        """`generator` charges, and calls the model that it is given: no breaker, no other model.

        `timeout_seconds`: how long a model may take until it counts as failed.
        """
        self._catalogue: Final = catalogue
        self._generator: Final = generator
        self._embed: Final = embed
        self._timeout_seconds: Final = timeout_seconds
        self._clock: Final = clock

    async def check(self, name: str, spending: Spending) -> Checked:
        """Calls the model once.

        Raises ModelNotFound, and what the governor refuses with. That the model itself
        failed is a finding, and raises nothing.
        """
        model = self._catalogue.named(name)
        tier = self._catalogue.tier_of(model)
        if not model.callable:
            return Checked(model, tier, 0.0, error=_not_callable(model))
        seconds = deadline.timeout_for(self._timeout_seconds)
        begun = self._clock.monotonic_seconds()
        try:
            with within(seconds):
                if model.kind is Kind.EMBEDDER:
                    return await self._embedded(model, begun)
                return await self._generated(model, tier, spending, begun)
        except TimeoutError:
            error = provider_failure(
                Failure.TIMEOUT,
                provider=model.provider,
                model=model.name,
                why=f"did not answer within {seconds:.3g} s",
            )
        except MeshError as failed:
            if failure_of(failed) is None and not isinstance(failed, ProviderFailed):
                raise
            error = failed
        return Checked(model, tier, self._since(begun), error=error)

    async def _embedded(self, model: ModelSpec, begun: float) -> Checked:
        embeddings = await self._embed([_WORDS], model.name)
        return Checked(model, None, self._since(begun), input_tokens=embeddings.input_tokens)

    async def _generated(
        self, model: ModelSpec, tier: Tier | None, spending: Spending, begun: float
    ) -> Checked:
        _, spent_in = self._catalogue.route(model.name, None)
        call = ModelCall(_prompt(), model, spent_in, spending)
        first: float | None = None
        async with aclosing(self._generator.stream(call)) as updates:
            async for update in updates:
                if isinstance(update, Generation):
                    completion = update.completion
                    return Checked(
                        model,
                        tier,
                        self._since(begun),
                        first,
                        completion.input_tokens,
                        completion.output_tokens,
                        update.cost_micros,
                    )
                first = self._since(begun) if first is None else first
        raise provider_failure(
            Failure.BROKEN_ANSWER,
            provider=model.provider,
            model=model.name,
            why="ended its stream before it had answered",
        )

    def _since(self, begun: float) -> float:
        return self._clock.monotonic_seconds() - begun


def _prompt() -> Prompt:
    message = conversation_pb2.Message(
        role=conversation_pb2.ROLE_USER, parts=[conversation_pb2.Part(text=_WORDS)]
    )
    return Prompt([message], (), max_output_tokens=_MOST_OUTPUT_TOKENS)


def _not_callable(model: ModelSpec) -> ModelNotFound:
    return ModelNotFound(
        f"The model {model.name} cannot be called. {model.description}".rstrip(),
        metadata={"model": model.name},
    )
