"""Words for the contract's enumerations, as options take them."""

from collections.abc import Mapping
from typing import TYPE_CHECKING, Final, cast

if TYPE_CHECKING:
    from agentmesh.access.v1.access_service_pb2 import Role
    from agentmesh.common.v1.tier_pb2 import Lane, ModelTier
    from agentmesh.coordinator.v1.schedule_service_pb2 import MissedRunPolicy, OverlapPolicy
    from agentmesh.coordinator.v1.task_event_pb2 import AgentPattern
    from agentmesh.coordinator.v1.task_pb2 import TaskState
    from agentmesh.governor.v1.budget_pb2 import BudgetScope, BudgetWindow
    from agentmesh.governor.v1.cost_governor_service_pb2 import SpendDimension, SpendFormat

# The numbers are written out, so that reading a command line does not load the
# contracts; a test compares them.
LANES: Final = cast("Mapping[str, Lane]", {"interactive": 1, "standard": 2, "batch": 3})
TIERS: Final = cast("Mapping[str, ModelTier]", {"fast": 1, "balanced": 2, "powerful": 3})
STATES: Final = cast(
    "Mapping[str, TaskState]",
    {
        "queued": 1,
        "running": 2,
        "waiting": 3,
        "succeeded": 4,
        "partial": 5,
        "failed": 6,
        "cancelled": 7,
        "dead_lettered": 8,
    },
)
ROLES: Final = cast("Mapping[str, Role]", {"user": 1, "operator": 2, "admin": 3})
MISSED_RUNS: Final = cast("Mapping[str, MissedRunPolicy]", {"skip": 1, "run-last": 2, "run-all": 3})
OVERLAPS: Final = cast("Mapping[str, OverlapPolicy]", {"allow": 1, "skip": 2})
PATTERNS: Final = cast(
    "Mapping[str, AgentPattern]",
    {
        "single-shot": 1,
        "react": 2,
        "plan-and-execute": 3,
        "reflection": 4,
        "supervisor": 5,
    },
)
BUDGET_SCOPES: Final = cast(
    "Mapping[str, BudgetScope]",
    {"global": 1, "tenant": 2, "task-type": 3, "agent": 4, "session": 5, "task": 6},
)
BUDGET_WINDOWS: Final = cast("Mapping[str, BudgetWindow]", {"day": 1, "month": 2, "lifetime": 3})
SPEND_DIMENSIONS: Final = cast(
    "Mapping[str, SpendDimension]",
    {"task-type": 1, "agent": 2, "model": 3, "tier": 4, "day": 5, "hour": 6, "tenant": 7},
)
SPEND_FORMATS: Final = cast("Mapping[str, SpendFormat]", {"csv": 1, "parquet": 2, "arrow": 3})
