"""What the gateway's filters are made to be, by the policy."""

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy, TenantTier
from services.governor.gateway_limits import burst, local_limits, shared_limits
from tasklog.policy import built_in, policy_of

_UNLIMITED = {"max_tokens": 4294967295, "tokens_per_fill": 4294967295, "fill_interval": "1s"}


def _policy(everybody: TenantTier, **tenants: TenantTier) -> QueuePolicy:
    tiers = {each.id: each for each in (everybody, *tenants.values())}
    return QueuePolicy(
        tenant_tiers=tiers.values(),
        default_tenant_tier=everybody.id,
        tenants={tenant: tier.id for tenant, tier in tenants.items()},
    )


def _buckets(policy: QueuePolicy) -> dict[str, Any]:
    """By tenant; the empty one is everybody else's."""
    descriptors = local_limits(policy_of(policy), "default")["descriptors"]
    return {each["entries"][0]["value"]: each["token_bucket"] for each in descriptors}


def _matches(policy: QueuePolicy, up_to: float) -> list[tuple[str, list[str]]]:
    """The tenant that is asked about, and which headers that takes, in the order of the filter."""
    found: list[tuple[str, list[str]]] = []
    for limit in shared_limits(policy_of(policy), "default", up_to)["rate_limits"]:
        match = limit["actions"][0]["header_value_match"]
        tenant = match["descriptor_value"] if match["descriptor_key"] == "tenant" else "any"
        conditions = [
            ("not " if each.get("invert_match") else "")
            + each.get("string_match", {}).get("exact", "named")
            for each in match["headers"]
        ]
        found.append((tenant, conditions))
    return found


_SMALL = TenantTier(id="small", requests_per_second=2, request_burst=7)
_LARGE = TenantTier(id="large", requests_per_second=5_000)
_FREE = TenantTier(id="free")


def test_each_named_tenant_has_its_tier_and_the_others_the_default_one() -> None:
    """A tier without a limit is one whose bucket is never empty."""
    assert _buckets(_policy(_SMALL, acme=_LARGE, umbrella=_FREE)) == {
        "": {"max_tokens": 7, "tokens_per_fill": 1, "fill_interval": "0.500000000s"},
        "acme": {"max_tokens": 5000, "tokens_per_fill": 250, "fill_interval": "0.050000000s"},
        "default": {"max_tokens": 7, "tokens_per_fill": 1, "fill_interval": "0.500000000s"},
        "umbrella": _UNLIMITED,
    }


def test_only_small_tiers_are_asked_about() -> None:
    """Where the rate is high, asking would cost more than it saves."""
    assert _matches(_policy(_LARGE, acme=_SMALL, umbrella=_FREE), 100) == [("acme", ["acme"])]
    assert _matches(_policy(_LARGE, acme=_SMALL), 1) == []
    assert _matches(built_in(), 100) == []
    assert _matches(built_in(), 0) == []


def test_tenants_that_nobody_names_are_asked_about_where_the_default_tier_is_small() -> None:
    """All but those whom the policy names, and who names none as the default tenant."""
    assert _matches(_policy(_SMALL, acme=_LARGE, umbrella=_SMALL), 100) == [
        ("umbrella", ["umbrella"]),
        ("any", ["named", "not acme", "not umbrella"]),
        ("default", ["not named"]),
    ]


def test_the_default_tenant_may_be_named() -> None:
    """It is then in that tier, whether a call names it or not."""
    policy = _policy(_LARGE, default=_SMALL)
    assert _buckets(policy)["default"]["max_tokens"] == 7
    assert _matches(policy, 100) == [("default", ["default"]), ("default", ["not named"])]


@pytest.mark.parametrize(
    ("per_second", "given_burst", "found"), [(5.0, 0, 5), (2.5, 0, 3), (2.5, 1, 1), (2.5, 90, 90)]
)
def test_without_a_burst_it_is_a_second_s_worth(
    per_second: float, given_burst: int, found: int
) -> None:
    """Rounded up, so that there is room for a request at all."""
    assert burst(TenantTier(requests_per_second=per_second, request_burst=given_burst)) == found


@given(
    per_second=st.floats(min_value=1, max_value=1_000_000),
    most=st.integers(min_value=0, max_value=1_000_000),
)
def test_a_bucket_fills_at_the_tiers_rate(per_second: float, most: int) -> None:
    """As whole tokens, not more often than Envoy can, and to a ten-thousandth the same rate."""
    tier = TenantTier(id="tier", requests_per_second=per_second, request_burst=most)
    bucket = _buckets(_policy(tier))[""]
    seconds = float(bucket["fill_interval"].removesuffix("s"))
    assert seconds >= 0.05 - 1e-9
    assert bucket["tokens_per_fill"] / seconds == pytest.approx(per_second, rel=1e-4)
    assert bucket["max_tokens"] >= 1
