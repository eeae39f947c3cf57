"""The settings of one model that a provider serves."""

from typing import Literal, Self

from pydantic import Field, model_validator

from meshkit.service import Section

ProviderName = Literal["openai", "anthropic", "triton"]


class ModelSettings(Section):
    """A model of `reasoning.models`, under the name that it has in the mesh."""

    provider: ProviderName
    # What the provider calls it; empty for the name in the mesh.
    model: str = ""
    # Where it is served: the base URL of an API, or host:port of Triton's gRPC. Empty for
    # what OPENAI_BASE_URL or ANTHROPIC_BASE_URL says, or the provider's own API.
    address: str = ""
    # The environment variable with the key; empty for the provider's usual one,
    # OPENAI_API_KEY or ANTHROPIC_API_KEY. Only the providers' own APIs need one.
    key_variable: str = ""
    # The most tokens of a request and its answer together, and of the answer alone.
    context_tokens: int = Field(default=128_000, ge=256, le=10_000_000)
    max_output_tokens: int = Field(default=8_192, ge=1, le=1_000_000)
    # What the provider allows, all processes of the mesh together; None for no limit.
    requests_per_minute: int | None = Field(default=None, ge=1, le=10_000_000)
    tokens_per_minute: int | None = Field(default=None, ge=1, le=10_000_000_000)
    # The most calls of one process at a time.
    max_in_flight: int = Field(default=256, ge=1, le=100_000)
    # How long a whole call may take, in seconds, where its caller gives it longer.
    timeout_seconds: float = Field(default=300.0, gt=0, le=3600)
    # How long it may take until there is a connection, in seconds.
    connect_timeout_seconds: float = Field(default=5.0, gt=0, le=300)
    # How long nothing may come, before the first byte of an answer or within it, in seconds.
    silence_timeout_seconds: float = Field(default=120.0, gt=0, le=3600)
    # Whether a Triton with a GPU is asked first, where an Envoy before several knows of one.
    needs_gpu: bool = False
    # What people should know of it.
    description: str = Field(default="", max_length=500)

    @model_validator(mode="after")
    def _triton_has_an_address(self) -> Self:
        if self.provider == "triton" and not self.address:
            raise ValueError("address: needed with `provider: triton`, such as 127.0.0.1:8001")
        return self
