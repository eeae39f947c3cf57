"""Words for the contract's enumerations."""

from collections.abc import Mapping, Sequence

import pytest

from agentmesh.common.v1.tier_pb2 import Lane, ModelTier
from agentmesh.coordinator.v1.schedule_service_pb2 import MissedRunPolicy, OverlapPolicy
from agentmesh.coordinator.v1.task_event_pb2 import AgentPattern
from agentmesh.coordinator.v1.task_pb2 import TaskState
from cli.choices import LANES, MISSED_RUNS, OVERLAPS, PATTERNS, STATES, TIERS


@pytest.mark.parametrize(
    ("choices", "contract", "prefix"),
    [
        (LANES, Lane.items(), "LANE_"),
        (STATES, TaskState.items(), "TASK_STATE_"),
        (PATTERNS, AgentPattern.items(), "AGENT_PATTERN_"),
        (MISSED_RUNS, MissedRunPolicy.items(), "MISSED_RUN_POLICY_"),
        (OVERLAPS, OverlapPolicy.items(), "OVERLAP_POLICY_"),
        (TIERS, ModelTier.items(), "MODEL_TIER_"),
    ],
)
def test_choices_are_those_of_the_contract(
    choices: Mapping[str, int], contract: Sequence[tuple[str, int]], prefix: str
) -> None:
    """Every value but the unspecified one can be chosen, under its own name."""
    chosen = {prefix + word.upper().replace("-", "_"): value for word, value in choices.items()}
    assert chosen == {name: value for name, value in contract if value}
