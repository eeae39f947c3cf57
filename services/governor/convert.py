"""The governor's contract to its domain and back."""

import re
from datetime import datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import errors, identity, names
from services.governor.account import Usage
from services.governor.governor import (
    Allowed,
    Denied,
    MadeCall,
    PlannedCall,
    Settlement,
    Spend,
)

_MAX_KEY_CHARACTERS: Final = 200
# More than any call can have. With these, every sum and product of money stays
# exact, in Redis' scripts, too.
_MAX_TOKENS: Final = 1_000_000_000
_MAX_CALLS: Final = 1_000_000
_MAX_MICROS: Final = 9_000_000_000_000_000
# Task, the last part of its name where the name is given.
_TASK: Final = re.compile(r"(?:tenants/[^/]+/tasks/)?([A-Za-z0-9][A-Za-z0-9_~:.-]{0,127})")


def tenant(parent: str) -> str:
    """The tenant that `parent` names; Forbidden where the caller acts for another."""
    (found,) = names.TENANT.parse(parent, field="parent")
    identity.require_tenant(parent)
    return found


def key(given: str) -> str:
    """A reservation's key, checked."""
    if not 1 <= len(given) <= _MAX_KEY_CHARACTERS:
        raise errors.InvalidField(
            "key", f"must have 1 to {_MAX_KEY_CHARACTERS} characters, not {len(given)}"
        )
    return given


def planned_call(request: pb.AdmitRequest) -> PlannedCall:
    """What Admit asks for."""
    _within("input_tokens", request.input_tokens, _MAX_TOKENS)
    _within("max_output_tokens", request.max_output_tokens, _MAX_TOKENS)
    _within("task_limit_micros", request.task_limit_micros, _MAX_MICROS)
    _within("task_spent_micros", request.task_spent_micros, _MAX_MICROS)
    if request.task_limit_micros and not request.task:
        raise errors.InvalidField("task", "must name the task whose cap `task_limit_micros` is")
    return PlannedCall(
        tenant=tenant(request.parent),
        key=key(request.key),
        model=_model(request.model),
        input_tokens=request.input_tokens,
        max_output_tokens=request.max_output_tokens,
        task=_task(request.task),
        task_limit_micros=request.task_limit_micros,
        task_spent_micros=request.task_spent_micros,
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
    return MadeCall(
        tenant=tenant(request.parent),
        key=key(request.key),
        model=_model(request.model),
        usage=Usage(
            input_tokens=usage.input_tokens,
            output_tokens=usage.output_tokens,
            model_calls=usage.model_calls,
            tool_calls=usage.tool_calls,
            cache_hits=usage.cache_hits,
            cached_input_tokens=usage.cached_input_tokens,
        ),
        task=_task(request.task),
    )


def admit_response(call: PlannedCall, verdict: Allowed | Denied) -> pb.AdmitResponse:
    """A verdict as Admit answers it."""
    if isinstance(verdict, Allowed):
        return pb.AdmitResponse(
            decision=budget_pb2.DECISION_ALLOW,
            reservation=budget_pb2.Reservation(
                key=call.key,
                reserved_micros=verdict.reserved_micros,
                expire_time=_timestamp(verdict.expires_at),
            ),
        )
    return pb.AdmitResponse(
        decision=budget_pb2.DECISION_DENY,
        budget=verdict.budget,
        resets_at=_timestamp(verdict.resets_at) if verdict.resets_at else None,
        explanation=verdict.explanation,
    )


def settle_response(_: MadeCall, settlement: Settlement) -> pb.SettleResponse:
    """A settlement as Settle answers it."""
    return pb.SettleResponse(
        cost_micros=settlement.cost_micros, repeated_settlement=settlement.repeated
    )


def spend_window(spend: Spend) -> pb.SpendWindow:
    """A window as GetSpend answers it."""
    standing = spend.standing
    return pb.SpendWindow(
        spent_micros=standing.spent_micros,
        reserved_micros=standing.reserved_micros,
        limit_micros=spend.limit_micros,
        window_start=_timestamp(spend.window.start),
        resets_at=_timestamp(spend.window.end),
        usage=usage_pb2.Usage(
            input_tokens=standing.usage.input_tokens,
            output_tokens=standing.usage.output_tokens,
            cost_micros=standing.spent_micros,
            model_calls=standing.usage.model_calls,
            tool_calls=standing.usage.tool_calls,
            cache_hits=standing.usage.cache_hits,
            cached_input_tokens=standing.usage.cached_input_tokens,
        ),
    )


def _within(field: str, figure: int, most: int) -> None:
    if not 0 <= figure <= most:
        raise errors.InvalidField(field, f"must be from 0 to {most}, not {figure}")


def _model(given: str) -> str:
    if not given:
        raise errors.InvalidField("model", "must name the model that is called")
    return given


def _task(given: str) -> str:
    if not given:
        return ""
    match = _TASK.fullmatch(given)
    if match is None:
        raise errors.InvalidField("task", f"must be a task's id or name, not {given[:80]!r}")
    return match[1]


def _timestamp(time: datetime) -> Timestamp:
    stamp = Timestamp()
    stamp.FromDatetime(time)
    return stamp
