"""The models that providers serve: each with its spec, its settings and who calls it."""

from collections.abc import Mapping, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass, replace
from functools import cached_property
from typing import TYPE_CHECKING, Final

from meshkit.clock import Clock
from services.reasoning.generation import Provider
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.model_environment import Access, access, key_variable, needs_key
from services.reasoning.model_settings import ModelSettings
from services.reasoning.provider_timeouts import ProviderTimeouts

if TYPE_CHECKING:
    from services.reasoning.http_client import HttpClient

# As mesh/envoy/models.yaml has it.
_GPU_FIRST: Final = {"x-agentmesh-device": "gpu"}
_BRANDS: Final = {"openai": "OpenAI", "anthropic": "Anthropic", "triton": "Triton"}


@dataclass(frozen=True, slots=True)
class ServedModel:
    """A model, and what there is to know of the endpoint that serves it."""

    spec: ModelSpec
    settings: ModelSettings
    # None for a model that cannot be called, since its key is missing.
    provider: Provider | None


def make_providers(
    models: Mapping[str, ModelSettings],
    environ: Mapping[str, str],
    stack: AsyncExitStack,
    clock: Clock,
) -> Sequence[ServedModel]:
    """The models of the settings, or of the environment, in the same order.

    What is opened for them is closed by `stack`. Raises ConfigError for an address that is none.
    """
    makers = _Makers(environ, stack, clock)
    return [makers.make(name, settings) for name, settings in models.items()]


class _Makers:
    """Imports an SDK when the first model needs it; all share one HTTP client."""

    def __init__(self, environ: Mapping[str, str], stack: AsyncExitStack, clock: Clock) -> None:
        self._environ: Final = environ
        self._stack: Final = stack
        self._clock: Final = clock

    def make(self, name: str, settings: ModelSettings) -> ServedModel:
        spec = ModelSpec(
            name=name,
            provider=settings.provider,
            kind=Kind.GENERATOR,
            context_tokens=settings.context_tokens,
            max_output_tokens=settings.max_output_tokens,
            description=settings.description,
        )
        if settings.provider == "triton":
            return self._triton(spec, settings)
        found = access(settings, self._environ, where=f"reasoning.models.{name}")
        if not found.key and needs_key(settings, found):
            missing = f"Needs the environment variable {key_variable(settings)}."
            description = f"{settings.description} {missing}".lstrip()
            spec = replace(spec, callable=False, description=description)
            return ServedModel(spec, settings, None)
        served = f"{_BRANDS[settings.provider]}'s API at {found.host}."
        spec = replace(spec, description=f"{served} {settings.description}".rstrip())
        return ServedModel(spec, settings, self._over_http(spec, settings, found))

    def _over_http(self, spec: ModelSpec, settings: ModelSettings, found: Access) -> Provider:
        if settings.provider == "anthropic":
            from services.reasoning.provider_anthropic import AnthropicProvider as Made
        else:
            from services.reasoning.provider_openai import OpenAIProvider as Made
        from services.reasoning.http_client import silence

        silence()
        return Made(
            spec,
            model=settings.model or spec.name,
            address=found.address,
            key=found.key,
            http=self._http,
            timeouts=_timeouts(settings),
            clock=self._clock,
        )

    def _triton(self, spec: ModelSpec, settings: ModelSettings) -> ServedModel:
        from services.reasoning.provider_triton import TritonProvider

        description = f"Triton at {settings.address}. {settings.description}".rstrip()
        spec = replace(spec, description=description)
        provider = TritonProvider(
            spec,
            model=settings.model or spec.name,
            address=settings.address,
            timeouts=_timeouts(settings),
            headers=_GPU_FIRST if settings.needs_gpu else None,
        )
        self._stack.push_async_callback(provider.close)
        return ServedModel(spec, settings, provider)

    @cached_property
    def _http(self) -> "HttpClient":
        from services.reasoning.http_client import http_client

        client = http_client()
        self._stack.push_async_callback(client.aclose)
        return client


def _timeouts(settings: ModelSettings) -> ProviderTimeouts:
    return ProviderTimeouts(
        settings.connect_timeout_seconds,
        settings.silence_timeout_seconds,
        settings.timeout_seconds,
    )
