"""The configuration file of a mesh on one machine: a section for each service."""

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from pydantic import Field

from meshkit import config
from meshkit.config import ConfigError, MeshSettings
from services.coordinator.settings import CoordinatorSettings
from services.executor.settings import ExecutorSettings
from services.governor.settings import GovernorSettings
from services.memory.settings import MemorySettings
from services.reasoning.settings import ReasoningSettings
from services.tool.settings import ToolSettings
from tier.failures import BadConfig
from tier.gateway_settings import GatewaySettings
from tier.machine_settings import MachineSettings
from tier.triton_settings import TritonSettings

# What the command and the build read, and no service.
_NOT_SETTINGS: Final = frozenset(
    (
        "AGENTMESH_API_KEY",
        "AGENTMESH_DEBUG",
        "AGENTMESH_ENVOY",
        "AGENTMESH_GRPCURL",
        "AGENTMESH_NATS_SERVER",
        "AGENTMESH_POSTGRES_SERVER",
        "AGENTMESH_PYTHON",
        "AGENTMESH_REDIS_SERVER",
        "AGENTMESH_TRITON_SERVER",
    )
)


class Settings(MeshSettings):
    """The sections, each as its service documents it, and what several services share."""

    # Of a task log that is yet to be made: see ProcessSettings.
    task_partitions: int | None = Field(default=None, ge=1, le=1024)
    governor: GovernorSettings = Field(default_factory=GovernorSettings)
    reasoning: ReasoningSettings = Field(default_factory=ReasoningSettings)
    memory: MemorySettings = Field(default_factory=MemorySettings)
    tool: ToolSettings = Field(default_factory=ToolSettings)
    coordinator: CoordinatorSettings = Field(default_factory=CoordinatorSettings)
    executor: ExecutorSettings = Field(default_factory=ExecutorSettings)
    triton: TritonSettings = Field(default_factory=TritonSettings)
    gateway: GatewaySettings = Field(default_factory=GatewaySettings)
    machine: MachineSettings = Field(default_factory=MachineSettings)


def load_settings(path: Path | None, environ: Mapping[str, str]) -> Settings:
    """The settings of all services; BadConfig names the key that is wrong."""
    ours = {key: value for key, value in environ.items() if key not in _NOT_SETTINGS}
    try:
        return config.load(Settings, path=path, environ=ours)
    except ConfigError as error:
        raise BadConfig(str(error)) from None
