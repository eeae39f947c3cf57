"""The governor's contract to its domain and back."""

import re
from datetime import UTC, datetime
from functools import lru_cache
from typing import Final

from google.protobuf.duration_pb2 import Duration
from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import errors, identity, names
from services.governor import usage_record
from services.governor.account import Usage
from services.governor.budget import MOST_MICROS
from services.governor.calls import (
    Allowed,
    Delayed,
    Lease,
    MadeCall,
    PlannedCall,
    SentLower,
    Settlement,
    Verdict,
    WantedLease,
)

_MAX_KEY_CHARACTERS: Final = 200
# Of a reservation: `#2` and so on may have been added to the key that was asked for.
_MAX_RESERVATION_CHARACTERS: Final = 216
_TIERS: Final = frozenset(tier_pb2.ModelTier.values())
# Databases refuse some control characters, and a charge must never be refused there.
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")
_TEXT: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{1,200}")
# More than any call can have. With these, every sum and product of money stays
# exact, in Redis' scripts, too.
_MAX_TOKENS: Final = 1_000_000_000
_MAX_CALLS: Final = 1_000_000
# Task, the last part of its name where the name is given.
_TASK: Final = re.compile(r"(?:tenants/[^/]+/tasks/)?([A-Za-z0-9][A-Za-z0-9_~:.-]{0,127})")


def tenant(parent: str) -> str:
    """The tenant that `parent` names; Forbidden where the caller acts for another."""
    (found,) = names.TENANT.parse(parent, field="parent")
    identity.require_tenant(parent)
    return found


def reservation_key(given: str) -> str:
    """The key of a reservation that was answered, checked."""
    return _key(given, "key", _MAX_RESERVATION_CHARACTERS)


def request_id(given: str) -> str:
    """What makes a call repeatable, checked."""
    if len(given) > _MAX_KEY_CHARACTERS:
        raise errors.InvalidField(
            "request_id", f"must have at most {_MAX_KEY_CHARACTERS} characters, not {len(given)}"
        )
    return given


def planned_call(request: pb.AdmitRequest) -> PlannedCall:
    """What Admit asks for."""
    _within("input_tokens", request.input_tokens, _MAX_TOKENS)
    _within("max_output_tokens", request.max_output_tokens, _MAX_TOKENS)
    _within("task_limit_micros", request.task_limit_micros, MOST_MICROS)
    _within("task_spent_micros", request.task_spent_micros, MOST_MICROS)
    if request.task_limit_micros and not request.task:
        raise errors.InvalidField("task", "must name the task whose cap `task_limit_micros` is")
    return PlannedCall(
        tenant=tenant(request.parent),
        key=_key(request.key, "key", _MAX_KEY_CHARACTERS),
        model=_model(request.model),
        input_tokens=request.input_tokens,
        max_output_tokens=request.max_output_tokens,
        tier=tier("tier", request.tier),
        task_type=text("task_type", request.task_type),
        agent=agent(request.agent),
        session=last_part("session", request.session),
        task=task(request.task),
        task_limit_micros=request.task_limit_micros,
        task_spent_micros=request.task_spent_micros,
        interactive=request.lane == tier_pb2.LANE_INTERACTIVE,
    )


def made_call(request: pb.SettleRequest) -> MadeCall:
    """What Settle reports."""
    usage = request.usage
    _within("usage.input_tokens", usage.input_tokens, _MAX_TOKENS)
    _within("usage.output_tokens", usage.output_tokens, _MAX_TOKENS)
    # A part of the input.
    _within("usage.cached_input_tokens", usage.cached_input_tokens, usage.input_tokens)
    _within("usage.model_calls", usage.model_calls, _MAX_CALLS)
    _within("usage.tool_calls", usage.tool_calls, _MAX_CALLS)
    _within("usage.cache_hits", usage.cache_hits, _MAX_CALLS)
    _within("leased_micros", request.leased_micros, MOST_MICROS)
    if request.leased_micros and not request.lease:
        raise errors.InvalidField("lease", "must name the lease that `leased_micros` were taken of")
    return MadeCall(
        tenant=tenant(request.parent),
        key=reservation_key(request.key),
        model=_model(request.model),
        usage=Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            model_calls=usage.model_calls,
            tool_calls=usage.tool_calls,
            cache_hits=usage.cache_hits,
            cached_input_tokens=usage.cached_input_tokens,
        ),
        tier=tier("tier", request.tier),
        task_type=text("task_type", request.task_type),
        agent=agent(request.agent),
        session=last_part("session", request.session),
        task=task(request.task),
        price_version=text("price_version", request.price_version),
        lease=_key(request.lease, "lease", _MAX_KEY_CHARACTERS) if request.lease else "",
        leased_micros=request.leased_micros,
        called_at=_time("call_time", request.call_time) if request.HasField("call_time") else None,
    )


def wanted_lease(request: pb.AcquireLeaseRequest) -> WantedLease:
    """What AcquireLease asks for."""
    _within("amount_micros", request.amount_micros, MOST_MICROS, least=1)
    return WantedLease(
        tenant=tenant(request.parent),
        lease=_key(request.lease, "lease", _MAX_KEY_CHARACTERS),
        amount_micros=request.amount_micros,
        task_type=text("task_type", request.task_type),
        agent=agent(request.agent),
    )


def kept_micros(request: pb.ReleaseRequest) -> int:
    """What is to stay reserved."""
    _within("keep_micros", request.keep_micros, MOST_MICROS)
    return request.keep_micros


def admit_response(_: PlannedCall, verdict: Verdict) -> pb.AdmitResponse:
    """A verdict as Admit answers it."""
    if isinstance(verdict, Allowed):
        # The usual answer: built field by field, which costs half as much.
        response = pb.AdmitResponse(
            decision=budget_pb2.DECISION_ALLOW, price_version=verdict.price_version
        )
        reservation = response.reservation
        reservation.key = verdict.key
        reservation.reserved_micros = verdict.reserved_micros
        reservation.expire_time.CopyFrom(timestamp(verdict.expires_at))
        if verdict.degrade_to:
            response.decision = budget_pb2.DECISION_DEGRADE
            response.degrade_to = tier_number(verdict.degrade_to)
            response.budget = verdict.budget
            response.explanation = verdict.explanation
        return response
    if isinstance(verdict, SentLower):
        return pb.AdmitResponse(
            decision=budget_pb2.DECISION_DEGRADE,
            degrade_to=tier_number(verdict.degrade_to),
            budget=verdict.budget,
            explanation=verdict.explanation,
        )
    if isinstance(verdict, Delayed):
        return pb.AdmitResponse(
            decision=budget_pb2.DECISION_THROTTLE,
            retry_after=_duration(verdict.retry_after_seconds),
            budget=verdict.budget,
            explanation=verdict.explanation,
        )
    return pb.AdmitResponse(
        decision=budget_pb2.DECISION_DENY,
        budget=verdict.budget,
        resets_at=timestamp(verdict.resets_at) if verdict.resets_at else None,
        explanation=verdict.explanation,
    )


def settle_response(_: MadeCall, settlement: Settlement) -> pb.SettleResponse:
    """A settlement as Settle answers it."""
    return pb.SettleResponse(
        cost_micros=settlement.cost_micros, repeated_settlement=settlement.repeated
    )


def lease_response(lease: Lease) -> pb.AcquireLeaseResponse:
    """A lease as AcquireLease answers it."""
    response = pb.AcquireLeaseResponse(
        reservation=budget_pb2.Reservation(
            key=lease.lease,
            reserved_micros=lease.micros,
            expire_time=timestamp(lease.expires_at),
        ),
        price_version=lease.price_version,
        admit_sessions=lease.admit_sessions,
        allowed_tiers=[tier_pb2.ModelTier.Name(each) for each in sorted(lease.tiers)],
    )
    if lease.retry_after_seconds:
        response.retry_after.CopyFrom(_duration(lease.retry_after_seconds))
    return response


def _key(given: str, field: str, most: int) -> str:
    if not 1 <= len(given) <= most:
        raise errors.InvalidField(field, f"must have 1 to {most} characters, not {len(given)}")
    if _CONTROL.search(given):
        raise errors.InvalidField(field, "must have no control character")
    return given


def _within(field: str, figure: int, most: int, *, least: int = 0) -> None:
    if not least <= figure <= most:
        raise errors.InvalidField(field, f"must be from {least} to {most}, not {figure}")


# Calls are of few kinds: the same words come again and again.
@lru_cache(maxsize=4096)
def text(field: str, given: str) -> str:
    """A word that budgets go by, checked."""
    if given and not _TEXT.fullmatch(given):
        raise errors.InvalidField(
            field, "must have at most 200 characters, no blank and no control character"
        )
    return given


def last_part(field: str, given: str) -> str:
    """What stands in its name's last part, where a name is given."""
    return text(field, given).rpartition("/")[2]


@lru_cache(maxsize=4096)
def agent(given: str) -> str:
    """An agent's id, checked, where its name or its id is given."""
    # Budgets are for all versions of an agent.
    return last_part("agent", given).partition("@")[0]


def tier(field: str, given: int) -> int:
    """A model tier, checked; 0 where none is named."""
    if given not in _TIERS:
        raise errors.InvalidField(field, "must be FAST, BALANCED, POWERFUL or unset")
    return given


def tier_number(given: int) -> tier_pb2.ModelTier:
    """A model tier as the contract has it."""
    return tier_pb2.ModelTier.Value(tier_pb2.ModelTier.Name(given))  # type: ignore[arg-type]


def _time(field: str, given: Timestamp) -> datetime:
    try:
        # A third of what the message's own way costs, and each settlement has one.
        time = datetime.fromtimestamp(given.seconds, UTC)
        return time.replace(microsecond=given.nanos // 1000)
    except (ValueError, OverflowError, OSError):
        raise errors.InvalidField(field, "must be a time from the year 1 to 9999") from None


def _model(given: str) -> str:
    if not given:
        raise errors.InvalidField("model", "must name the model that is called")
    return given


def task(given: str) -> str:
    """A task's id, checked, where its name or its id is given."""
    if not given:
        return ""
    match = _TASK.fullmatch(given)
    if match is None:
        raise errors.InvalidField("task", f"must be a task's id or name, not {given[:80]!r}")
    return match[1]


def _duration(seconds: float) -> Duration:
    duration = Duration()
    duration.FromNanoseconds(round(seconds * 1e9))
    return duration


# A time as the contract has it. Calls that are answered together expire together; what is
# answered is copied into messages.
timestamp: Final = lru_cache(maxsize=64)(usage_record.timestamp)
