"""The settings of what is done about models that fail."""

from typing import Self

from pydantic import Field, model_validator

from meshkit.service import Section


class BreakerSettings(Section):
    """When calls are kept away from a model, for all processes together."""

    # Over how long calls and failures are counted, in seconds.
    window_seconds: int = Field(default=10, ge=1, le=600)
    # So many failures within it open the breaker, where they are such a share of the calls.
    least_failures: int = Field(default=5, ge=1, le=100_000)
    failure_percent: int = Field(default=50, ge=1, le=100)
    # How long it stays open, in seconds: at first, then twice as long each time, at most.
    pause_seconds: float = Field(default=5.0, ge=0.1, le=3600)
    longest_pause_seconds: float = Field(default=120.0, ge=0.1, le=3600)
    # How many calls at a time are let through to see whether it works again.
    probes: int = Field(default=3, ge=1, le=1000)
    # After so long a probe of which nothing was heard counts as lost, in seconds.
    probe_seconds: float = Field(default=60.0, ge=0.1, le=3600)
    # A caller's own time limit that ran out counts as a failure of the model where this had
    # said nothing for so long, in seconds.
    slow_seconds: float = Field(default=10.0, gt=0, le=3600)

    @model_validator(mode="after")
    def _pauses_grow(self) -> Self:
        if self.longest_pause_seconds < self.pause_seconds:
            raise ValueError("longest_pause_seconds: must not be less than pause_seconds")
        return self


class RetrySettings(Section):
    """How calls are tried again that may go well a moment later."""

    # The most attempts of one call, the first included.
    attempts: int = Field(default=3, ge=1, le=10)
    # At most so many more calls than were asked for, in percent.
    percent: float = Field(default=10.0, ge=0, le=100)
    # What may be saved up for a moment in which many fail.
    saved: int = Field(default=5, ge=1, le=1000)
    # The most before the second attempt, in seconds; twice as much each time, at most.
    pause_seconds: float = Field(default=0.2, ge=0, le=60)
    longest_pause_seconds: float = Field(default=5.0, ge=0, le=300)


class HedgeSettings(Section):
    """How calls of the interactive lane that take unusually long are made a second time."""

    # For at most so many of them, in percent; 0 for none.
    percent: float = Field(default=5.0, ge=0, le=50)
    # What takes longer than so many in a hundred is unusual.
    percentile: float = Field(default=95.0, ge=50, lt=100)
    # So many calls of a model are watched first.
    warm_up: int = Field(default=100, ge=10, le=4000)


class DegradeSettings(Section):
    """What may be done rather than fail. Each is stated in the answer."""

    # Models of cheaper tiers may answer.
    to_cheaper_tiers: bool = True
    # The last answer to the same request of the same tenant may be given for so long, in
    # seconds; 0 for never. Answers are then kept in memory and in Redis for that time.
    last_answer_seconds: int = Field(default=0, ge=0, le=30 * 86_400)
    # How many of them each process keeps.
    last_answers: int = Field(default=1000, ge=1, le=100_000)
    # The offline model may answer, also for tiers that do not name it.
    to_offline: bool = False


class ResilienceSettings(Section):
    """What is done about models that fail, or are slow."""

    breaker: BreakerSettings = Field(default_factory=BreakerSettings)
    retry: RetrySettings = Field(default_factory=RetrySettings)
    hedge: HedgeSettings = Field(default_factory=HedgeSettings)
    degrade: DegradeSettings = Field(default_factory=DegradeSettings)
    # How long a call waits for its turn at a model that is at its limit, in seconds, before
    # it goes elsewhere.
    turn_patience_seconds: float = Field(default=1.0, ge=0, le=60)
