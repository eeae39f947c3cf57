"""What lanes and tenants may use: the built-in limits, and what may be set."""

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import LanePolicy, QueuePolicy, TenantTier
from meshkit import names
from meshkit.errors import InvalidField, Violation

_DAY: Final = timedelta(days=1)
_LONGEST_RETENTION: Final = 36_500 * _DAY
_LONGEST_LINGER: Final = timedelta(seconds=1)
_MICROSECOND: Final = timedelta(microseconds=1)
_MAX_WORKERS: Final = 10_000
_LANES: Final = (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH)
_MODEL_TIERS: Final = frozenset(tier_pb2.ModelTier.values()) - {tier_pb2.MODEL_TIER_UNSPECIFIED}
_USD: Final = 1_000_000
# Up to here the numbers of Redis' scripts, which count the spending, are exact.
_MOST_MICROS: Final = 9_000_000_000 * _USD
_MOST_REQUESTS: Final = 1_000_000


def _duration(delta: timedelta) -> Duration:
    duration = Duration()
    duration.FromTimedelta(delta)
    return duration


def _lane(
    lane: tier_pb2.Lane,
    *,
    workers: int,
    max_concurrent: int,
    max_attempts: int,
    time_limit_seconds: float,
    step_seconds: float,
    retry_max_seconds: float,
    linger_seconds: float = 0.0,
) -> LanePolicy:
    return LanePolicy(
        lane=lane,
        workers=workers,
        max_concurrent=max_concurrent,
        max_attempts=max_attempts,
        time_limit=_duration(timedelta(seconds=time_limit_seconds)),
        step_time_limit=_duration(timedelta(seconds=step_seconds)),
        retry_base=_duration(timedelta(milliseconds=500)),
        retry_max=_duration(timedelta(seconds=retry_max_seconds)),
        wait_limit=_duration(7 * _DAY),
        linger=_duration(timedelta(seconds=linger_seconds)) if linger_seconds else None,
    )


def built_in() -> QueuePolicy:
    """The policy of a mesh in which nobody has set one."""
    return QueuePolicy(
        lanes=[
            _lane(
                tier_pb2.LANE_INTERACTIVE,
                workers=32,
                max_concurrent=96,
                max_attempts=2,
                time_limit_seconds=30,
                step_seconds=25,
                retry_max_seconds=2,
            ),
            _lane(
                tier_pb2.LANE_STANDARD,
                workers=64,
                max_concurrent=128,
                max_attempts=3,
                time_limit_seconds=120,
                step_seconds=90,
                retry_max_seconds=30,
            ),
            _lane(
                tier_pb2.LANE_BATCH,
                workers=16,
                max_concurrent=80,
                max_attempts=5,
                time_limit_seconds=600,
                step_seconds=300,
                retry_max_seconds=60,
                linger_seconds=0.06,
            ),
        ],
        shared_workers=64,
        tenant_tiers=[
            TenantTier(
                id="free",
                weight=1,
                max_concurrent=8,
                max_queued=1_000,
                submits_per_second=10,
                submit_burst=50,
                retention=_duration(7 * _DAY),
                retention_bytes=1 << 30,
                day_limit_micros=1 * _USD,
                month_limit_micros=10 * _USD,
                allowed_model_tiers=[tier_pb2.MODEL_TIER_FAST],
                requests_per_second=20,
                request_burst=100,
                fail_closed=True,
            ),
            TenantTier(
                id="standard",
                weight=4,
                max_concurrent=256,
                max_queued=100_000,
                submits_per_second=2_000,
                submit_burst=10_000,
                retention=_duration(30 * _DAY),
                retention_bytes=20 << 30,
                # Of the governor's settings, which say what a tenant may spend that nobody knows.
                day_limit_micros=0,
                month_limit_micros=0,
                requests_per_second=5_000,
                request_burst=20_000,
            ),
            TenantTier(
                id="enterprise",
                weight=16,
                max_concurrent=2_048,
                max_queued=1_000_000,
                submits_per_second=10_000,
                submit_burst=50_000,
                retention=_duration(90 * _DAY),
                retention_bytes=200 << 30,
                day_limit_micros=1_000 * _USD,
                month_limit_micros=20_000 * _USD,
                requests_per_second=20_000,
                request_burst=100_000,
            ),
        ],
        default_tenant_tier="standard",
    )


@dataclass(frozen=True, slots=True)
class Policy:
    """A policy, ready to be asked. Made by `policy_of`."""

    message: QueuePolicy
    lanes: Mapping[int, LanePolicy]
    tiers: Mapping[str, TenantTier]

    def lane(self, lane: tier_pb2.Lane) -> LanePolicy:
        """How a lane works; STANDARD where none is named."""
        return self.lanes[lane or tier_pb2.LANE_STANDARD]

    def tenant(self, tenant: str) -> TenantTier:
        """What a tenant may use."""
        return self.tiers[self.message.tenants.get(tenant, self.message.default_tenant_tier)]


def policy_of(message: QueuePolicy) -> Policy:
    """`message`, which `check` has seen, ready to be asked."""
    return Policy(
        message,
        {lane.lane: lane for lane in message.lanes},
        {tier.id: tier for tier in message.tenant_tiers},
    )


def check(message: QueuePolicy) -> None:
    """Refuses a policy that cannot be worked with.

    Raises:
        InvalidField: With every violation found; paths begin with `policy`.
    """
    violations = [
        Violation(f"policy.{field}", description) for field, description in _wrong(message)
    ]
    if violations:
        raise InvalidField.many(violations)


def _wrong(message: QueuePolicy) -> Iterator[tuple[str, str]]:
    if not 0 <= message.shared_workers <= _MAX_WORKERS:
        yield "shared_workers", f"must be from 0 to {_MAX_WORKERS:,}"
    if sorted(lane.lane for lane in message.lanes) != sorted(_LANES):
        yield "lanes", "must have one entry for each of INTERACTIVE, STANDARD and BATCH"
    for number, lane in enumerate(message.lanes):
        for field, description in _wrong_lane(lane):
            yield f"lanes[{number}].{field}", description
    ids = [tier.id for tier in message.tenant_tiers]
    if len(set(ids)) < len(ids):
        yield "tenant_tiers", "must not name a tier twice"
    for number, tier in enumerate(message.tenant_tiers):
        for field, description in _wrong_tier(tier):
            yield f"tenant_tiers[{number}].{field}", description
    if message.default_tenant_tier not in ids:
        yield "default_tenant_tier", f"must be one of {', '.join(ids) or 'tenant_tiers'}"
    for tenant, tier_id in sorted(message.tenants.items()):
        if not names.TENANT.matches(f"tenants/{tenant}"):
            yield f"tenants[{tenant[:80]!r}]", "must be the id of a tenant"
        if tier_id not in ids:
            yield f"tenants[{tenant[:80]!r}]", f"must be one of {', '.join(ids)}"


def _wrong_lane(lane: LanePolicy) -> Iterator[tuple[str, str]]:
    if not 0 <= lane.workers <= _MAX_WORKERS:
        yield "workers", f"must be from 0 to {_MAX_WORKERS:,}"
    if not lane.workers <= lane.max_concurrent <= 2 * _MAX_WORKERS:
        yield "max_concurrent", f"must be from workers ({lane.workers}) to {2 * _MAX_WORKERS:,}"
    if not 1 <= lane.max_attempts <= 100:
        yield "max_attempts", "must be from 1 to 100"
    limits = {
        "time_limit": _DAY,
        "step_time_limit": _DAY,
        "retry_base": _DAY,
        "retry_max": _DAY,
        "wait_limit": 90 * _DAY,
    }
    for field, longest in limits.items():
        if not _within(getattr(lane, field), longest):
            yield field, f"must be from 0.001 s to {longest.total_seconds():.0f} s"
    if not 0 <= lane.linger.ToNanoseconds() <= _LONGEST_LINGER // _MICROSECOND * 1_000:
        yield "linger", f"must be from 0 s to {_LONGEST_LINGER.total_seconds():.0f} s"


def _within(duration: Duration, longest: timedelta) -> bool:
    # As numbers, for what the wire can carry may be beyond any timedelta.
    nanoseconds = duration.ToNanoseconds()
    return 1_000_000 <= nanoseconds <= longest // _MICROSECOND * 1_000


def _wrong_tier(tier: TenantTier) -> Iterator[tuple[str, str]]:
    if not names.TENANT.matches(f"tenants/{tier.id}"):
        yield "id", "must be 1 to 63 lower-case letters, digits or hyphens, no hyphen first"
    if not 1 <= tier.weight <= 1_000:
        yield "weight", "must be from 1 to 1,000"
    if not 1 <= tier.max_concurrent <= 1_000_000:
        yield "max_concurrent", "must be from 1 to 1,000,000"
    if tier.max_queued < 1:
        yield "max_queued", "must be at least 1"
    # Written so that not-a-number is refused.
    if not 0 < tier.submits_per_second <= 1_000_000:
        yield "submits_per_second", "must be over 0 and at most 1,000,000"
    if tier.submit_burst < 1:
        yield "submit_burst", "must be at least 1"
    if tier.HasField("retention") and not _within(tier.retention, _LONGEST_RETENTION):
        yield "retention", f"must be from 0.001 s to {_LONGEST_RETENTION.days} days, or unset"
    if tier.retention_bytes < 0:
        yield "retention_bytes", "must not be negative"
    yield from _wrong_spending(tier)
    # Written so that not-a-number is refused. Who has to wait finds a request's room within a
    # second, which is what those are told who are refused.
    if tier.requests_per_second != 0 and not 1 <= tier.requests_per_second <= _MOST_REQUESTS:
        yield "requests_per_second", f"must be from 1 to {_MOST_REQUESTS:,}, or 0 for no limit"
    if not 0 <= tier.request_burst <= _MOST_REQUESTS:
        yield "request_burst", f"must be from 0 to {_MOST_REQUESTS:,}"


def _wrong_spending(tier: TenantTier) -> Iterator[tuple[str, str]]:
    for field in ("day_limit_micros", "month_limit_micros"):
        if not 0 <= getattr(tier, field) <= _MOST_MICROS:
            yield field, f"must be from 0, for the governor's setting, to {_MOST_MICROS:,}"
    for number, allowed in enumerate(tier.allowed_model_tiers):
        if allowed not in _MODEL_TIERS:
            yield f"allowed_model_tiers[{number}]", "must be FAST, BALANCED or POWERFUL"
        elif allowed in tier.allowed_model_tiers[:number]:
            yield f"allowed_model_tiers[{number}]", "must not name a tier twice"
