"""The six parts of the mesh: what each offers, and whom it calls."""

from dataclasses import dataclass
from typing import Final


@dataclass(frozen=True, slots=True)
class Part:
    """A service as the tiers on one machine run it."""

    name: str
    # Full names from the contracts.
    services: tuple[str, ...]
    # The parts that it calls. There is no other edge, and no circle.
    calls: tuple[str, ...]


# Each after those that it calls, except that the executor wants the coordinator's streams.
PARTS: Final = (
    Part("governor", ("agentmesh.governor.v1.CostGovernorService",), ()),
    Part("reasoning", ("agentmesh.reasoning.v1.ReasoningService",), ("governor",)),
    Part("memory", ("agentmesh.memory.v1.MemoryService",), ("reasoning",)),
    Part("tool", ("agentmesh.tool.v1.ToolService",), ("memory",)),
    Part(
        "coordinator",
        (
            "agentmesh.coordinator.v1.CoordinatorService",
            "agentmesh.coordinator.v1.AgentService",
            "agentmesh.coordinator.v1.QueueService",
            "agentmesh.coordinator.v1.ReadModelService",
            "agentmesh.coordinator.v1.ScheduleService",
            "agentmesh.access.v1.AccessService",
        ),
        ("governor",),
    ),
    Part("executor", (), ("reasoning", "tool", "memory")),
)
SERVICES: Final = tuple(name for part in PARTS for name in part.services)
