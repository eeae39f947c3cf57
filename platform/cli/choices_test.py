"""Words for the contract's enumerations."""

from collections.abc import Mapping, Sequence

import pytest

from agentmesh.access.v1.access_service_pb2 import Role
from agentmesh.common.v1.tier_pb2 import Lane, ModelTier
from agentmesh.coordinator.v1.schedule_service_pb2 import MissedRunPolicy, OverlapPolicy
from agentmesh.coordinator.v1.task_event_pb2 import AgentPattern
from agentmesh.coordinator.v1.task_pb2 import TaskState
from agentmesh.governor.v1.budget_pb2 import BudgetScope, BudgetWindow
from agentmesh.governor.v1.cost_governor_service_pb2 import SpendDimension, SpendFormat
from cli.choices import (
    BUDGET_SCOPES,
    BUDGET_WINDOWS,
    LANES,
    MISSED_RUNS,
    OVERLAPS,
    PATTERNS,
    ROLES,
    SPEND_DIMENSIONS,
    SPEND_FORMATS,
    STATES,
    TIERS,
)


@pytest.mark.parametrize(
    ("choices", "contract", "prefix"),
    [
        (LANES, Lane.items(), "LANE_"),
        (STATES, TaskState.items(), "TASK_STATE_"),
        (PATTERNS, AgentPattern.items(), "AGENT_PATTERN_"),
        (ROLES, Role.items(), "ROLE_"),
        (MISSED_RUNS, MissedRunPolicy.items(), "MISSED_RUN_POLICY_"),
        (OVERLAPS, OverlapPolicy.items(), "OVERLAP_POLICY_"),
        (TIERS, ModelTier.items(), "MODEL_TIER_"),
        (BUDGET_SCOPES, BudgetScope.items(), "BUDGET_SCOPE_"),
        (BUDGET_WINDOWS, BudgetWindow.items(), "BUDGET_WINDOW_"),
        (SPEND_DIMENSIONS, SpendDimension.items(), "SPEND_DIMENSION_"),
        (SPEND_FORMATS, SpendFormat.items(), "SPEND_FORMAT_"),
    ],
)
def test_choices_are_those_of_the_contract(
    choices: Mapping[str, int], contract: Sequence[tuple[str, int]], prefix: str
) -> None:
    """Every value but the unspecified one can be chosen, under its own name."""
    chosen = {prefix + word.upper().replace("-", "_"): value for word, value in choices.items()}
    assert chosen == {name: value for name, value in contract if value}
