"""What the journal keeps of a settled call."""

from datetime import UTC, datetime
from typing import Final, cast

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import usage_record_pb2
from services.governor.calls import MadeCall

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_DAY_SECONDS: Final = 86_400


def usage_record(
    call: MadeCall, cost_micros: int, settle_time: Timestamp, version: str
) -> usage_record_pb2.UsageRecord:
    """The record; `version`: of the prices, where the call names none."""
    record = usage_record_pb2.UsageRecord(
        tenant=call.tenant,
        key=call.key,
        model=call.model,
        tier=cast("tier_pb2.ModelTier", call.tier),
        task_type=call.task_type,
        agent=call.agent,
        session=call.session,
        task=call.task,
        price_version=call.price_version or version,
        call_time=settle_time if call.called_at is None else timestamp(call.called_at),
        settle_time=settle_time,
    )
    usage, used = record.usage, call.usage
    usage.cost_micros = cost_micros
    usage.input_tokens, usage.output_tokens = used.input_tokens, used.output_tokens
    usage.cached_input_tokens = used.cached_input_tokens
    usage.model_calls, usage.tool_calls = used.model_calls, used.tool_calls
    usage.cache_hits = used.cache_hits
    return record


def timestamp(time: datetime) -> Timestamp:
    """A time as records have it."""
    since = time - _EPOCH
    return Timestamp(
        seconds=since.days * _DAY_SECONDS + since.seconds, nanos=since.microseconds * 1000
    )
