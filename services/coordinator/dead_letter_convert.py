"""Requests about dead letters, checked, and the answers to them."""

from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from meshkit.errors import InvalidField, to_status
from services.coordinator import convert
from services.coordinator.dead_letters import Redriven
from services.coordinator.read_model import DeadLetterFilter, Letter

_MAX_COMMENT: Final = 4096
_MAX_REASON: Final = 128
_MAX_AGE: Final = timedelta(days=3650)
_MAX_PER_SECOND: Final = 1000
_DEFAULT_PER_SECOND: Final = 10


def wanted(
    request: pb.ListDeadLettersRequest | pb.RedriveDeadLettersRequest,
) -> DeadLetterFilter:
    """Which dead letters a request is about.

    Raises:
        InvalidField: The lane or the reason cannot be one.
    """
    if request.lane not in tier_pb2.Lane.values():
        raise InvalidField("lane", "must be LANE_INTERACTIVE, LANE_STANDARD or LANE_BATCH")
    if len(request.reason) > _MAX_REASON:
        raise InvalidField("reason", f"must be at most {_MAX_REASON} characters")
    return DeadLetterFilter(
        tenant=convert.tenant(request.parent), lane=request.lane, reason=request.reason
    )


def min_age(value: Duration) -> timedelta:
    """An age; zero where the field is unset."""
    if not 0 <= value.seconds + value.nanos / 1e9 <= _MAX_AGE.total_seconds():
        raise InvalidField("min_age", f"must not be negative, and at most {_MAX_AGE.days:,} days")
    return value.ToTimedelta()


def comment(value: str) -> str:
    """A remark of acceptable length; may be empty."""
    if len(value) > _MAX_COMMENT:
        raise InvalidField("comment", f"must be at most {_MAX_COMMENT:,} characters")
    return value


def limit(value: int) -> int:
    """How many to put back; 0 for all."""
    if value < 0:
        raise InvalidField("limit", "must not be negative")
    return value


def max_per_second(value: int) -> int:
    """How many to put back in a second."""
    if not 0 <= value <= _MAX_PER_SECOND:
        raise InvalidField("max_per_second", f"must be from 1 to {_MAX_PER_SECOND:,}, or 0 for 10")
    return value or _DEFAULT_PER_SECOND


def letter(found: Letter) -> pb.DeadLetter:
    """A dead letter as it is listed."""
    message = pb.DeadLetter(task=found.task, reason=found.reason)
    message.time.FromDatetime(found.time)
    return message


def redriven(progress: Redriven) -> pb.RedriveDeadLettersResponse:
    """What is told of one dead letter of many."""
    answer = pb.RedriveDeadLettersResponse(task=progress.task, redriven=progress.count)
    if progress.error is not None:
        answer.error.CopyFrom(to_status(progress.error))
    return answer
