"""Which policies can be worked with, and what they say."""

from collections.abc import Callable
from typing import cast

import pytest
from google.protobuf.duration_pb2 import Duration
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from meshkit.errors import InvalidField
from tasklog.policy import built_in, check, policy_of

_DAY = 86_400


def _seconds(policy: QueuePolicy, lane: int, field: str, seconds: int, nanos: int = 0) -> None:
    getattr(policy.lanes[lane], field).CopyFrom(Duration(seconds=seconds, nanos=nanos))


def _policy(field: str, value: object) -> Callable[[QueuePolicy], None]:
    return lambda policy: setattr(policy, field, value)


def _lane(field: str, value: int) -> Callable[[QueuePolicy], None]:
    return lambda policy: setattr(policy.lanes[1], field, value)


def _tier(field: str, value: object) -> Callable[[QueuePolicy], None]:
    return lambda policy: setattr(policy.tenant_tiers[0], field, value)


def _time(field: str, seconds: int, nanos: int = 0) -> Callable[[QueuePolicy], None]:
    return lambda policy: _seconds(policy, 1, field, seconds, nanos)


def _unset(field: str) -> Callable[[QueuePolicy], None]:
    return lambda policy: policy.lanes[1].ClearField(field)  # pyright: ignore[reportArgumentType]


def _tenant(tenant: str, tier: str) -> Callable[[QueuePolicy], None]:
    return lambda policy: policy.tenants.update({tenant: tier})


def _drop_lane(policy: QueuePolicy) -> None:
    del policy.lanes[2]


def _double_lane(policy: QueuePolicy) -> None:
    policy.lanes[2].lane = tier_pb2.LANE_STANDARD


def _too_many_workers(policy: QueuePolicy) -> None:
    policy.lanes[1].workers = policy.lanes[1].max_concurrent = 10_001


def _double_tier(policy: QueuePolicy) -> None:
    policy.tenant_tiers.add().CopyFrom(policy.tenant_tiers[0])


def _allowed(*numbers: int) -> Callable[[QueuePolicy], None]:
    def change(policy: QueuePolicy) -> None:
        del policy.tenant_tiers[0].allowed_model_tiers[:]
        policy.tenant_tiers[0].allowed_model_tiers.extend(cast("list[tier_pb2.ModelTier]", numbers))

    return change


def _retention(seconds: int) -> Callable[[QueuePolicy], None]:
    return lambda policy: policy.tenant_tiers[0].retention.CopyFrom(Duration(seconds=seconds))


_SHOULD_LAST = "must be from 0.001 s to 86400 s"
_KEPT = "must be from 0.001 s to 36500 days, or unset"
_MICROS = "must be from 0, for the governor's setting, to 9,000,000,000,000,000"
_REQUESTS = "must be from 1 to 1,000,000, or 0 for no limit"
_IDS = "must be one of free, standard, enterprise"


@pytest.mark.parametrize(
    ("change", "field", "description"),
    [
        (_lane("workers", -1), "lanes[1].workers", "must be from 0 to 10,000"),
        (_too_many_workers, "lanes[1].workers", "must be from 0 to 10,000"),
        (_lane("max_concurrent", 63), "lanes[1].max_concurrent", "must be from workers (64) to"),
        (_lane("max_concurrent", 20_001), "lanes[1].max_concurrent", "must be from workers (64)"),
        (_lane("max_attempts", 0), "lanes[1].max_attempts", "must be from 1 to 100"),
        (_lane("max_attempts", 101), "lanes[1].max_attempts", "must be from 1 to 100"),
        (_time("time_limit", 0), "lanes[1].time_limit", _SHOULD_LAST),
        (_time("time_limit", 0, 999_999), "lanes[1].time_limit", _SHOULD_LAST),
        (_time("time_limit", -1), "lanes[1].time_limit", _SHOULD_LAST),
        (_time("time_limit", _DAY, 1), "lanes[1].time_limit", _SHOULD_LAST),
        (_time("time_limit", 1 << 60), "lanes[1].time_limit", _SHOULD_LAST),
        (_unset("step_time_limit"), "lanes[1].step_time_limit", _SHOULD_LAST),
        (_time("retry_base", 0), "lanes[1].retry_base", _SHOULD_LAST),
        (_time("retry_max", _DAY + 1), "lanes[1].retry_max", _SHOULD_LAST),
        (_time("linger", 1, 1), "lanes[1].linger", "must be from 0 s to 1 s"),
        (_time("linger", -1), "lanes[1].linger", "must be from 0 s to 1 s"),
        (_time("linger", 1 << 60), "lanes[1].linger", "must be from 0 s to 1 s"),
        (
            _time("wait_limit", 90 * _DAY + 1),
            "lanes[1].wait_limit",
            "must be from 0.001 s to 7776000 s",
        ),
        (_drop_lane, "lanes", "must have one entry for each of INTERACTIVE, STANDARD and BATCH"),
        (_double_lane, "lanes", "must have one entry for each of INTERACTIVE, STANDARD and BATCH"),
        (
            _policy("shared_workers", -1),
            "shared_workers",
            "must be from 0 to 10,000",
        ),
        (
            _policy("shared_workers", 10_001),
            "shared_workers",
            "must be from 0 to 10,000",
        ),
        (_double_tier, "tenant_tiers", "must not name a tier twice"),
        (_tier("weight", 0), "tenant_tiers[0].weight", "must be from 1 to 1,000"),
        (_tier("weight", 1_001), "tenant_tiers[0].weight", "must be from 1 to 1,000"),
        (
            _tier("max_concurrent", 0),
            "tenant_tiers[0].max_concurrent",
            "must be from 1 to 1,000,000",
        ),
        (
            _tier("max_concurrent", 1_000_001),
            "tenant_tiers[0].max_concurrent",
            "must be from 1 to 1,000,000",
        ),
        (_tier("max_queued", 0), "tenant_tiers[0].max_queued", "must be at least 1"),
        (
            _tier("submits_per_second", 0.0),
            "tenant_tiers[0].submits_per_second",
            "must be over 0 and at most 1,000,000",
        ),
        (
            _tier("submits_per_second", float("nan")),
            "tenant_tiers[0].submits_per_second",
            "must be over 0 and at most 1,000,000",
        ),
        (
            _tier("submits_per_second", float("inf")),
            "tenant_tiers[0].submits_per_second",
            "must be over 0 and at most 1,000,000",
        ),
        (_tier("submit_burst", 0), "tenant_tiers[0].submit_burst", "must be at least 1"),
        (_retention(0), "tenant_tiers[0].retention", _KEPT),
        (_retention(-5), "tenant_tiers[0].retention", _KEPT),
        (_retention(1 << 60), "tenant_tiers[0].retention", _KEPT),
        (_tier("retention_bytes", -1), "tenant_tiers[0].retention_bytes", "must not be negative"),
        (_tier("day_limit_micros", -1), "tenant_tiers[0].day_limit_micros", _MICROS),
        (_tier("day_limit_micros", 9 * 10**15 + 1), "tenant_tiers[0].day_limit_micros", _MICROS),
        (_tier("month_limit_micros", -1), "tenant_tiers[0].month_limit_micros", _MICROS),
        (_tier("month_limit_micros", 2**63 - 1), "tenant_tiers[0].month_limit_micros", _MICROS),
        (_allowed(2, 0), "tenant_tiers[0].allowed_model_tiers[1]", "must be FAST, BALANCED or"),
        (_allowed(4), "tenant_tiers[0].allowed_model_tiers[0]", "must be FAST, BALANCED or"),
        (_allowed(1, 2, 1), "tenant_tiers[0].allowed_model_tiers[2]", "must not name a tier twice"),
        (_tier("requests_per_second", 0.99), "tenant_tiers[0].requests_per_second", _REQUESTS),
        (_tier("requests_per_second", -1.0), "tenant_tiers[0].requests_per_second", _REQUESTS),
        (_tier("requests_per_second", 1e6 + 1), "tenant_tiers[0].requests_per_second", _REQUESTS),
        (
            _tier("requests_per_second", float("nan")),
            "tenant_tiers[0].requests_per_second",
            _REQUESTS,
        ),
        (
            _tier("request_burst", -1),
            "tenant_tiers[0].request_burst",
            "must be from 0 to 1,000,000",
        ),
        (
            _tier("request_burst", 1_000_001),
            "tenant_tiers[0].request_burst",
            "must be from 0 to 1,000,000",
        ),
        (
            _policy("default_tenant_tier", ""),
            "default_tenant_tier",
            _IDS,
        ),
        (_tenant("acme", "gold"), "tenants['acme']", _IDS),
        (_tenant("A.b", "free"), "tenants['A.b']", "must be the id of a tenant"),
    ],
)
def test_each_bound_is_refused_with_its_path(
    change: Callable[[QueuePolicy], None], field: str, description: str
) -> None:
    """One wrong field gives one violation, which says what would be right."""
    policy = built_in()
    change(policy)
    with pytest.raises(InvalidField) as caught:
        check(policy)
    (violation,) = caught.value.violations
    assert violation.field == f"policy.{field}"
    assert violation.description.startswith(description)


def test_a_tiers_bad_id_is_named() -> None:
    """A tier is named like a tenant."""
    policy = built_in()
    policy.tenant_tiers.add().CopyFrom(policy.tenant_tiers[0])
    policy.tenant_tiers[3].id = "Gold tier"
    with pytest.raises(InvalidField) as caught:
        check(policy)
    assert [each.field for each in caught.value.violations] == ["policy.tenant_tiers[3].id"]


def test_the_built_in_policy_can_be_worked_with() -> None:
    """It has the lanes' limits that the documents promise."""
    check(built_in())
    lanes = policy_of(built_in()).lanes
    assert {
        tier_pb2.Lane.Name(lane): (
            each.time_limit.seconds,
            each.max_attempts,
            each.linger.ToMilliseconds(),
        )
        for lane, each in lanes.items()
    } == {  # type: ignore[comparison-overlap]
        "LANE_INTERACTIVE": (30, 2, 0),
        "LANE_STANDARD": (120, 3, 0),
        "LANE_BATCH": (600, 5, 60),
    }


def test_the_built_in_tiers_grow() -> None:
    """Whoever is in a higher one may do more of everything."""
    free, standard, enterprise = built_in().tenant_tiers
    assert [each.id for each in (free, standard, enterprise)] == ["free", "standard", "enterprise"]
    for field in ("weight", "max_concurrent", "submits_per_second", "requests_per_second"):
        assert getattr(free, field) < getattr(standard, field) < getattr(enterprise, field)
    assert (free.day_limit_micros, free.month_limit_micros) == (1_000_000, 10_000_000)
    assert list(free.allowed_model_tiers) == [tier_pb2.MODEL_TIER_FAST]
    assert [each.fail_closed for each in (free, standard, enterprise)] == [True, False, False]


def test_a_tier_need_not_limit_what_the_gateway_and_the_governor_limit() -> None:
    """A policy from before these limits goes on to mean what it meant."""
    policy = built_in()
    for tier in policy.tenant_tiers:
        for field in (
            *("day_limit_micros", "month_limit_micros", "allowed_model_tiers"),
            *("requests_per_second", "request_burst", "fail_closed"),
        ):
            tier.ClearField(field)
    check(policy)


def test_the_longest_times_are_allowed() -> None:
    """Limits themselves are inside."""
    policy = built_in()
    _seconds(policy, 0, "time_limit", _DAY)
    _seconds(policy, 0, "wait_limit", 90 * _DAY)
    check(policy)


def test_tenants_have_their_tier_or_the_default() -> None:
    """A tenant that nobody names is in the default tier; a lane that nobody names is STANDARD."""
    policy = built_in()
    policy.tenants["acme"] = "enterprise"
    found = policy_of(policy)
    assert found.tenant("acme").id == "enterprise"
    assert found.tenant("somebody").id == "standard"
    assert found.lane(tier_pb2.LANE_UNSPECIFIED).lane == tier_pb2.LANE_STANDARD
    assert found.lane(tier_pb2.LANE_BATCH).lane == tier_pb2.LANE_BATCH


_INT32 = st.integers(-(2**31), 2**31 - 1)
_INT64 = st.integers(-(2**63), 2**63 - 1)
_DURATIONS = st.one_of(
    st.builds(Duration, seconds=st.integers(-1, 8_000_000), nanos=st.integers(0, 999_999_999)),
    st.builds(Duration, seconds=_INT64, nanos=_INT32),
)


@st.composite
def _policies(draw: st.DrawFn) -> QueuePolicy:
    """The built-in policy with a few fields set to anything that the wire can carry."""
    policy = built_in()
    for _ in range(draw(st.integers(1, 4))):
        part = draw(st.sampled_from([policy, *policy.lanes, *policy.tenant_tiers]))
        fields = [
            field
            for field in part.DESCRIPTOR.fields
            if field.name not in ("lanes", "tenant_tiers", "tenants", "etag", "lane")
        ]
        field = draw(st.sampled_from(fields))
        if field.message_type is not None:
            getattr(part, field.name).CopyFrom(draw(_DURATIONS))
        elif field.is_repeated:
            getattr(part, field.name).extend(draw(st.lists(_INT32, max_size=3)))
        elif field.cpp_type == field.CPPTYPE_BOOL:
            setattr(part, field.name, draw(st.booleans()))
        elif field.cpp_type == field.CPPTYPE_STRING:
            setattr(part, field.name, draw(st.sampled_from(["free", "gold", "", "Not One"])))
        elif field.cpp_type == field.CPPTYPE_DOUBLE:
            setattr(part, field.name, draw(st.floats()))
        else:
            numbers = _INT32 if field.cpp_type == field.CPPTYPE_INT32 else _INT64
            setattr(part, field.name, draw(st.one_of(numbers, st.integers(0, 200))))
    return policy


def _violations(policy: QueuePolicy) -> list[str]:
    try:
        check(policy)
    except InvalidField as error:
        return [each.field for each in error.violations]
    return []


@given(_policies())
def test_what_passes_can_be_worked_with(policy: QueuePolicy) -> None:
    """Whatever comes is refused with paths, or every number in it makes sense."""
    violations = _violations(policy)
    if violations:
        assert all(field.startswith("policy.") for field in violations)
        return
    found = policy_of(policy)
    for lane in (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH):
        limits = found.lane(lane)
        assert 0 <= limits.workers <= limits.max_concurrent
        assert limits.max_attempts >= 1
        assert 0 < limits.time_limit.ToTimedelta().total_seconds() <= _DAY
        assert 0 < limits.wait_limit.ToTimedelta().total_seconds() <= 90 * _DAY
    tier = found.tenant("anybody")
    assert not tier.HasField("retention") or tier.retention.ToTimedelta().total_seconds() > 0
    assert tier.weight >= 1
    assert tier.max_concurrent >= 1
    assert tier.submit_burst >= 1
    assert 0 < tier.submits_per_second <= 1_000_000
