"""The settings of reasoning."""

from pathlib import Path
from typing import Literal, Self

from pydantic import Field, model_validator

from meshkit.service import ProcessSettings, Section
from services.reasoning.model_settings import ModelSettings
from services.reasoning.resilience_settings import ResilienceSettings

TierName = Literal["fast", "balanced", "powerful"]


class ReasoningSettings(Section):
    """The reasoning service's section of the settings."""

    # The models of each tier by name, the preferred one first. Unless it is set, the models of
    # the environment come before `offline`. A tier that is left out has the models of the next
    # cheaper one, or else `offline`; an empty one has none.
    tiers: dict[TierName, list[str]] = Field(
        default_factory=lambda: {
            "fast": ["offline"],
            "balanced": ["offline"],
            "powerful": ["offline"],
        }
    )
    # Models that providers serve, by their names in the mesh. Each needs a price. With none,
    # the environment decides: see model_environment.py.
    models: dict[str, ModelSettings] = Field(default_factory=dict)
    # What is done about models that fail, or are slow.
    resilience: ResilienceSettings = Field(default_factory=ResilienceSettings)
    # Where requests go that name neither a tier nor a model.
    default_tier: TierName = "balanced"
    # The price book of the mesh; None for the one that comes with the governor.
    price_book: Path | None = None
    # What may be spent a minute while the governor cannot be reached, in micro-USD.
    allowance_micros_per_minute: int = Field(default=50_000, ge=0, le=1_000_000_000)
    # The part of it that one tenant may have, in percent.
    tenant_allowance_percent: int = Field(default=50, ge=1, le=100)
    # How long one question to the governor may take, in seconds.
    governor_timeout_seconds: float = Field(default=1.0, gt=0, le=30)
    # How long a governor that could not be reached is left alone, in seconds.
    governor_ask_again_seconds: float = Field(default=1.0, ge=0, le=60)
    # What is used in so many seconds is leased from the governor at a time, for each tenant,
    # task type and agent; idle for as long, a lease is given back.
    lease_cover_seconds: float = Field(default=10.0, ge=1, le=300)
    # The least and the most of one lease, in micro-USD. With 0 as the most the governor is
    # asked for each call.
    lease_least_micros: int = Field(default=10_000, ge=1, le=1_000_000_000)
    lease_most_micros: int = Field(default=5_000_000, ge=0, le=1_000_000_000_000)
    # The most leases at a time, and the most of one tenant.
    leases: int = Field(default=1024, ge=1, le=100_000)
    tenant_leases: int = Field(default=256, ge=1, le=100_000)
    # Settlements that nobody waits for are sent together so often, in seconds.
    settle_every_seconds: float = Field(default=0.2, gt=0, le=10)
    # The most settlements that may wait to be sent.
    waiting_settlements: int = Field(default=20_000, ge=1, le=1_000_000)
    # How long the end of the process may wait for these, in seconds.
    drain_seconds: float = Field(default=5.0, ge=0, le=60)
    # Who embeds: the model in this process, or a Triton server.
    embedder: Literal["inprocess", "triton"] = "inprocess"
    # The folder of the embedding model for `inprocess`; None for the packaged one.
    embedding_model: Path | None = None
    # host:port of Triton's gRPC endpoint; needed with `embedder: triton`.
    triton_target: str = ""
    # What that Triton serves besides: `text_generation` becomes the model `text-generation`.
    triton_models: list[Literal["text_generation", "code_embedder"]] = Field(
        default_factory=list[Literal["text_generation", "code_embedder"]]
    )
    # How long a model may take to answer a check until it counts as failed, in seconds.
    check_timeout_seconds: float = Field(default=30.0, gt=0, le=300)
    # How often Tritons are asked how their models are, in seconds.
    triton_check_seconds: float = Field(default=5.0, gt=0, le=3600)
    # How long each call of the model `stub` takes, in milliseconds; None for no such model.
    # It is for measuring: see provider_stub.py.
    stub_latency_ms: int | None = Field(default=None, ge=0, le=60_000)
    # The models that OPENAI_API_KEY (or OPENAI_BASE_URL) and ANTHROPIC_API_KEY stand for, where
    # OPENAI_MODEL and ANTHROPIC_MODEL name no others.
    openai_model: str = Field(default="gpt-5-mini", min_length=1)
    anthropic_model: str = Field(default="claude-sonnet-4-5", min_length=1)

    @model_validator(mode="after")
    def _triton_has_a_target(self) -> Self:
        if self.embedder == "triton" and not self.triton_target:
            raise ValueError(
                "triton_target: needed with `embedder: triton`, such as 127.0.0.1:8001"
            )
        if self.triton_models and not self.triton_target:
            raise ValueError("triton_target: needed with `triton_models`, such as 127.0.0.1:8001")
        return self


class Settings(ProcessSettings):
    """The settings of a reasoning service that is a process of its own."""

    reasoning: ReasoningSettings = Field(default_factory=ReasoningSettings)
