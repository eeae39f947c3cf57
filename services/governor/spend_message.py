"""What the ledger answers, in the words of the contract."""

from collections.abc import Sequence
from typing import Final

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.errors import InvalidField
from services.governor import convert
from services.governor.profiles import Profile
from services.governor.spend_projection import Projection
from services.governor.spend_query import Dimension, SpendGroup

_DIMENSIONS: Final = {
    pb.SPEND_DIMENSION_TASK_TYPE: Dimension.TASK_TYPE,
    pb.SPEND_DIMENSION_AGENT: Dimension.AGENT,
    pb.SPEND_DIMENSION_MODEL: Dimension.MODEL,
    pb.SPEND_DIMENSION_TIER: Dimension.TIER,
    pb.SPEND_DIMENSION_DAY: Dimension.DAY,
    pb.SPEND_DIMENSION_HOUR: Dimension.HOUR,
    pb.SPEND_DIMENSION_TENANT: Dimension.TENANT,
}


def dimensions(given: Sequence[pb.SpendDimension]) -> Sequence[Dimension]:
    """By what is grouped.

    Raises:
        InvalidField: One is unknown, or given twice.
    """
    found: list[Dimension] = []
    for place, each in enumerate(given):
        if each not in _DIMENSIONS:
            raise InvalidField(f"group_by[{place}]", f"must be a known dimension, not {each}")
        if _DIMENSIONS[each] in found:
            raise InvalidField(
                f"group_by[{place}]", f"must not be {pb.SpendDimension.Name(each)} again"
            )
        found.append(_DIMENSIONS[each])
    return found


def row(group: SpendGroup) -> pb.SpendRow:
    """A group as QuerySpend answers it."""
    figures = group.figures
    message = pb.SpendRow(
        group=group.values,
        usage=usage_pb2.Usage(**figures._asdict()),
        tasks=group.tasks,
        succeeded_tasks=group.succeeded,
    )
    if group.tasks:
        message.cost_micros_per_task = group.task_cost_micros / group.tasks
    if group.succeeded:
        message.cost_micros_per_succeeded_task = group.task_cost_micros / group.succeeded
    return message


def projection(found: Projection, limit_micros: int) -> pb.SpendProjection:
    """A projection as ProjectSpend answers it."""
    assert found.window.end is not None
    reached = found.limit_reached_at
    return pb.SpendProjection(
        spent_micros=found.spent_micros,
        projected_micros=found.projected_micros,
        limit_micros=limit_micros,
        resets_at=convert.timestamp(found.window.end),
        limit_reached_at=None if reached is None else convert.timestamp(reached),
        method=found.method,
    )


def profile(found: Profile) -> budget_pb2.TaskProfile:
    """A profile as GetTaskProfile answers it."""
    return budget_pb2.TaskProfile(
        task_type=found.key.task_type,
        tier=convert.tier_number(found.key.tier),
        samples=found.samples,
        mean_input_tokens=found.mean_input_tokens,
        mean_output_tokens=found.mean_output_tokens,
        mean_cost_micros=found.mean_cost_micros,
        p95_cost_micros=found.p95_cost_micros,
    )
