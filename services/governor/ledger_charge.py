"""A charge: what one settled call used and cost, as the ledger takes it from the journal."""

import json
from collections.abc import Iterable, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any, Final, NamedTuple, cast

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.common.v1 import tier_pb2, usage_pb2
from agentmesh.governor.v1 import usage_record_pb2 as pb
from meshkit.bus import Followed

_EPOCH: Final = datetime(1970, 1, 1, tzinfo=UTC)
_MICROS_A_SECOND: Final = 1_000_000
_NANOSECONDS_A_MICRO: Final = 1_000


class Figures(NamedTuple):
    """What was used, in the order of the tables' columns."""

    input_tokens: int = 0
    output_tokens: int = 0
    cached_input_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    cache_hits: int = 0
    cost_micros: int = 0


class Charge(NamedTuple):
    """One settled call. What it has not is empty."""

    tenant: str
    key: str
    task_type: str
    agent: str
    model: str
    tier: int
    task: str
    session: str
    price_version: str
    # The stream sequence of its record in the journal.
    sequence: int
    # When the call ended, and when it was settled, in microseconds since 1970.
    called_micros: int
    settled_micros: int
    figures: Figures

    @property
    def settled_at(self) -> datetime:
        """When it was settled."""
        return _EPOCH + timedelta(microseconds=self.settled_micros)


def charge_text(charge: Charge) -> str:
    """A charge as JSON, in plain ASCII: what a database does not take is escaped in it."""
    return json.dumps({**charge._asdict(), "figures": charge.figures._asdict()})


def charge_from(text: str) -> Charge:
    """What `charge_text` made."""
    fields: dict[str, Any] = json.loads(text)
    figures = Figures(**fields.pop("figures"))
    return Charge(**fields, figures=figures)


def record_of(charge: Charge) -> pb.UsageRecord:
    """A charge as the journal has it."""
    record = pb.UsageRecord(
        tenant=charge.tenant,
        key=charge.key,
        model=charge.model,
        tier=cast("tier_pb2.ModelTier", charge.tier),
        task_type=charge.task_type,
        agent=charge.agent,
        session=charge.session,
        task=charge.task,
        price_version=charge.price_version,
        usage=usage_pb2.Usage(**charge.figures._asdict()),
    )
    record.call_time.FromMicroseconds(charge.called_micros)
    record.settle_time.FromMicroseconds(charge.settled_micros)
    return record


def charges_of(message: Followed) -> Sequence[Charge]:
    """What a message of the journal says.

    Raises:
        DecodeError: It is no UsageRecords.
    """
    stored_micros = message.timestamp_ns // _NANOSECONDS_A_MICRO
    records = pb.UsageRecords.FromString(message.payload).records
    return charges_of_records(records, message.sequence, stored_micros)


def charges_of_records(
    records: Iterable[pb.UsageRecord], sequence: int, stored_micros: int
) -> Sequence[Charge]:
    """What a message at that place of the journal says, which was stored at that time."""
    return [_charge(record, sequence, stored_micros) for record in records]


def _charge(record: pb.UsageRecord, sequence: int, stored_micros: int) -> Charge:
    usage = record.usage
    figures = Figures(
        usage.input_tokens,
        usage.output_tokens,
        usage.cached_input_tokens,
        usage.model_calls,
        usage.tool_calls,
        usage.cache_hits,
        usage.cost_micros,
    )
    settled = _micros(record.settle_time) or stored_micros
    return Charge(
        tenant=record.tenant,
        key=record.key,
        task_type=record.task_type,
        agent=record.agent,
        model=record.model,
        tier=record.tier,
        task=record.task,
        session=record.session,
        price_version=record.price_version,
        sequence=sequence,
        called_micros=_micros(record.call_time) or settled,
        settled_micros=settled,
        figures=figures,
    )


def _micros(stamp: Timestamp) -> int:
    return stamp.seconds * _MICROS_A_SECOND + stamp.nanos // _NANOSECONDS_A_MICRO
