"""The tool service's settings."""

from pydantic import Field

from meshkit.service import ProcessSettings, Section


class ToolSettings(Section):
    """The tool service's section of the settings."""

    # For how many seconds repeats of a call that changes something are answered
    # from its record.
    keep_record_seconds: int = Field(default=7 * 86_400, ge=60)
    # How long search_memory waits for the memory service, in seconds.
    memory_timeout_seconds: float = Field(default=5.0, gt=0, le=10)
    # How long each call of the tool `stub` takes, in milliseconds; None for no such
    # tool. It is for measuring.
    stub_latency_ms: int | None = Field(default=None, ge=0, le=60_000)


class Settings(ProcessSettings):
    """The settings of a tool service that is a process of its own."""

    tool: ToolSettings = Field(default_factory=ToolSettings)
