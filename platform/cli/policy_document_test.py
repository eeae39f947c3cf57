"""The queue policy as a document."""

import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1.tier_pb2 import LANE_BATCH
from agentmesh.coordinator.v1.queue_service_pb2 import LanePolicy, QueuePolicy, TenantTier
from cli.plain import to_plain
from cli.policy_document import change, difference, from_text, to_yaml
from cli.problem import Problem


def _policy() -> QueuePolicy:
    policy = QueuePolicy(shared_workers=4, default_tenant_tier="free", etag="7")
    policy.tenants.update({"acme": "free"})
    lane = policy.lanes.add(lane=LANE_BATCH, workers=2, max_concurrent=8)
    lane.time_limit.FromSeconds(600)
    lane.retry_base.FromMilliseconds(500)
    tier = policy.tenant_tiers.add(id="free", weight=1, max_queued=10, submits_per_second=2.5)
    tier.retention.FromSeconds(7 * 86400)
    return policy


_YAML = """\
# How tasks are queued and run. Change it and put it in force with
# `agentmesh queue apply FILE`; times are such as 500ms, 30s or 7d.
lanes:
- lane: batch
  workers: 2
  max_concurrent: 8
  max_attempts: 0
  time_limit: 10m
  retry_base: 500ms
shared_workers: 4
tenant_tiers:
- id: free
  weight: 1
  max_concurrent: 0
  max_queued: 10
  submits_per_second: 2.5
  submit_burst: 0
  retention: 7d
  retention_bytes: 0
default_tenant_tier: free
tenants:
  acme: free
etag: '7'"""


def test_a_policy_is_readable_yaml() -> None:
    """Lanes are words, times have units, and the etag comes along."""
    assert to_yaml(_policy()) == _YAML


def test_the_contracts_json_is_read_as_well() -> None:
    """What --json prints can be changed by a program and applied."""
    assert from_text(json.dumps(to_plain(_policy())), "p") == _policy()


@given(
    workers=st.integers(min_value=0, max_value=2**31 - 1),
    milliseconds=st.integers(min_value=1, max_value=90 * 86400 * 1000),
    tenants=st.dictionaries(st.from_regex(r"[a-z0-9-]{1,20}", fullmatch=True), st.just("free")),
    rate=st.floats(min_value=0.001, max_value=1e6),
)
def test_a_document_says_the_whole_policy(
    workers: int, milliseconds: int, tenants: dict[str, str], rate: float
) -> None:
    """Written and read again it is the same, whatever its values."""
    policy = _policy()
    policy.lanes[0].workers = workers
    policy.lanes[0].wait_limit.FromMilliseconds(milliseconds)
    policy.tenants.update(tenants)
    policy.tenant_tiers[0].submits_per_second = rate
    assert from_text(to_yaml(policy), "p") == policy


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "p: is no YAML:"),
        ("- a", "p: is no policy."),
        ("colour: blue", "p: colour is not known; known are lanes, shared_workers,"),
        ("shared_workers: many", "p: shared_workers must be a whole number, not 'many'."),
        ("shared_workers: true", "p: shared_workers must be a whole number, not True."),
        ("shared_workers: 99999999999", "p: shared_workers must be a whole number, not"),
        ("lanes: 3", "p: lanes must be a list."),
        ("lanes: [batch]", "p: lanes[0] must be a mapping."),
        ("lanes: [{lane: fast}]", "p: lanes[0].lane must be one of interactive, standard, batch"),
        ("lanes: [{time_limit: soon}]", "p: lanes[0].time_limit must be a time such as 500ms,"),
        ("tenants: [a]", "p: tenants must be a mapping."),
        ("tenant_tiers: [{submits_per_second: x}]", "submits_per_second must be a number, not"),
    ],
)
def test_what_is_no_policy_is_told_by_its_place(text: str, message: str) -> None:
    """The file, the setting and what it must be are named."""
    with pytest.raises(Problem) as caught:
        from_text(text, "p")
    assert message in caught.value.message


def test_settings_change_what_they_name() -> None:
    """Numbers, times with units, and none for what may be left out."""
    lane, tier = LanePolicy(lane=LANE_BATCH, workers=2), TenantTier(id="free")
    change(lane, {"workers": "5", "time_limit": "45s"})
    assert (lane.workers, lane.time_limit.seconds) == (5, 45)
    change(tier, {"submits_per_second": "0.5", "retention": "none"})
    assert (tier.submits_per_second, tier.HasField("retention")) == (0.5, False)


@pytest.mark.parametrize(
    ("settings", "message"),
    [
        ({"speed": "1"}, "There is no setting 'speed'; there are workers, max_concurrent,"),
        ({"lane": "batch"}, "There is no setting 'lane'; there are workers,"),
        ({"workers": "2.5"}, "workers must be a whole number, not '2.5'."),
        ({"time_limit": "soon"}, "time_limit must be a time such as 500ms, 30s or 7d, not 'soon'."),
    ],
)
def test_settings_that_do_not_fit_are_told(settings: dict[str, str], message: str) -> None:
    """The settings there are, or what the value must be."""
    with pytest.raises(Problem) as caught:
        change(LanePolicy(lane=LANE_BATCH), settings)
    assert caught.value.message.startswith(message)


def test_the_difference_names_each_setting_once() -> None:
    """Changed, new and removed ones; the etag is none."""
    after = _policy()
    after.etag = "8"
    after.lanes[0].workers = 3
    after.tenants.pop("acme")
    after.tenants["umbrella"] = "free"
    after.tenant_tiers[0].ClearField("retention")
    assert difference(_policy(), after) == [
        "~ lanes.batch.workers: 2 → 3",
        "- tenant_tiers.free.retention: 7d",
        "- tenants.acme: free",
        "+ tenants.umbrella: free",
    ]
    assert difference(_policy(), _policy()) == []
