"""Where alerts are told: the stream, its subjects, and what a message holds.

A message's place in the stream is the alert's sequence, by which readers go on.
"""

from datetime import UTC
from typing import Final

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.bus import StoredMessage, StreamSpec
from services.governor.alert import Alert, Kind

STREAM: Final = "ALERTS"
ALL: Final = "alerts.*"
# No tenant is called like this, and `tenants/-` stands for all of them.
_EVERYBODY: Final = "-"
_DAY_SECONDS: Final = 86_400


def stream_spec(keep_days: int) -> StreamSpec:
    """The stream. Each message is also sent to `live.alerts.<tenant>` once it is stored."""
    return StreamSpec(
        name=STREAM,
        subjects=(ALL,),
        max_age_seconds=keep_days * _DAY_SECONDS,
        republish=("alerts.>", "live.alerts.>"),
        description="Alerts about spending, each once, in the order in which they were told.",
    )


def subject(tenant: str) -> str:
    """Where a tenant's alerts stand; with an empty one, those of all tenants together."""
    return f"alerts.{tenant or _EVERYBODY}"


def live(stored: str) -> str:
    """Where messages of a subject are heard as they come."""
    return f"live.{stored}"


def encode(alert: Alert) -> bytes:
    """The message. It holds all but the sequence, which is its place."""
    message = pb.WatchAlertsResponse(
        budget=alert.budget,
        kind=alert.kind,
        text=alert.text,
        tenant=alert.tenant,
        id=alert.id,
        spent_micros=alert.spent_micros,
        limit_micros=alert.limit_micros,
    )
    message.time.FromDatetime(alert.time)
    return message.SerializeToString(deterministic=True)


def decode(message: StoredMessage) -> pb.WatchAlertsResponse:
    """What a stored message says, with its sequence."""
    alert = pb.WatchAlertsResponse.FromString(message.payload)
    alert.sequence = message.sequence
    return alert


def alert_of(message: pb.WatchAlertsResponse) -> Alert:
    """The alert that a message tells; ValueError for a kind of a later version."""
    return Alert(
        id=message.id,
        tenant=message.tenant,
        budget=message.budget,
        kind=Kind(message.kind),
        text=message.text,
        time=message.time.ToDatetime(tzinfo=UTC),
        spent_micros=message.spent_micros,
        limit_micros=message.limit_micros,
    )
