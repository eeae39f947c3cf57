"""Settings of the executor."""

from pydantic import Field

from agentmesh.common.v1 import tier_pb2
from meshkit.service import ProcessSettings, Section


class LaneSettings(Section):
    """How an executor works on a lane."""

    workers: int = Field(ge=0, le=1000, description="Tasks that this process runs at once.")
    max_attempts: int = Field(ge=1, le=100, description="Attempts before the dead letters.")


class ExecutorSettings(Section):
    """How tasks are run."""

    interactive: LaneSettings = LaneSettings(workers=32, max_attempts=2)
    standard: LaneSettings = LaneSettings(workers=64, max_attempts=3)
    batch: LaneSettings = LaneSettings(workers=16, max_attempts=5)
    claim_seconds: float = Field(
        default=4.0,
        ge=1,
        le=300,
        description="A task whose executor is silent for so long goes to another one.",
    )
    model_timeout_seconds: float = Field(
        default=60.0, gt=0, description="Longest wait for one model call."
    )
    tool_timeout_seconds: float = Field(
        default=30.0, gt=0, description="Longest wait for one tool call."
    )
    memory_timeout_seconds: float = Field(
        default=2.0, gt=0, description="Longest wait for the memory of a session."
    )
    context_tokens: int = Field(
        default=4000, gt=0, le=1_000_000, description="Tokens of a session given to the model."
    )
    retry_base_seconds: float = Field(
        default=0.5, gt=0, description="Pause before the second attempt; doubles with each."
    )
    retry_max_seconds: float = Field(default=30.0, gt=0, description="Longest pause.")

    def lane(self, lane: tier_pb2.Lane) -> LaneSettings:
        """The settings of one lane."""
        match lane:
            case tier_pb2.LANE_INTERACTIVE:
                return self.interactive
            case tier_pb2.LANE_BATCH:
                return self.batch
            case _:
                return self.standard


class Settings(ProcessSettings):
    """Settings of a process that runs an executor alone."""

    executor: ExecutorSettings = ExecutorSettings()
