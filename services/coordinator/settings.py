"""Settings of the coordinator."""

from pydantic import Field

from agentmesh.common.v1 import tier_pb2
from meshkit.service import ProcessSettings, Section


class LaneSettings(Section):
    """What a lane promises to its tasks."""

    time_limit_seconds: float = Field(gt=0, le=86_400, description="How long a task may take.")


class CoordinatorSettings(Section):
    """How tasks are accepted."""

    interactive: LaneSettings = LaneSettings(time_limit_seconds=30)
    standard: LaneSettings = LaneSettings(time_limit_seconds=120)
    batch: LaneSettings = LaneSettings(time_limit_seconds=600)
    max_input_bytes: int = Field(
        default=1 << 20, gt=0, le=1 << 20, description="Largest input of a task, in bytes."
    )

    def time_limit_seconds(self, lane: tier_pb2.Lane) -> float:
        """How long a task of `lane` may take, in seconds."""
        match lane:
            case tier_pb2.LANE_INTERACTIVE:
                return self.interactive.time_limit_seconds
            case tier_pb2.LANE_BATCH:
                return self.batch.time_limit_seconds
            case _:
                return self.standard.time_limit_seconds


class Settings(ProcessSettings):
    """Settings of a process that runs the coordinator alone."""

    coordinator: CoordinatorSettings = CoordinatorSettings()
