"""The queue policy as a document."""

import json

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1.tier_pb2 import (
    LANE_BATCH,
    MODEL_TIER_BALANCED,
    MODEL_TIER_FAST,
    MODEL_TIER_POWERFUL,
)
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
    tier.allowed_model_tiers.extend([MODEL_TIER_FAST, MODEL_TIER_BALANCED])
    tier.requests_per_second = 20
    tier.fail_closed = True
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
  day_limit_micros: 0
  month_limit_micros: 0
  allowed_model_tiers:
  - fast
  - balanced
  requests_per_second: 20
  request_burst: 0
  fail_closed: true
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


# Each writes and reads a whole document, which takes a while.
@settings(max_examples=25, deadline=None)
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


def test_names_and_numbers_are_what_is_written() -> None:
    """A tenant may be called what is a truth value or another number to YAML."""
    policy = from_text(
        "tenants: {no: free, on: free, 010: free, 0x1f: free, 1-1: free}\n"
        "shared_workers: 0100\n"
        "tenant_tiers: [{id: free, fail_closed: yes, retention: null}]\n",
        "p",
    )
    assert set(policy.tenants) == {"no", "on", "010", "0x1f", "1-1"}
    assert policy.shared_workers == 100
    assert policy.tenant_tiers == [TenantTier(id="free", fail_closed=True)]


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("[", "p: is no YAML:"),
        ("- a", "p: is no policy."),
        ("colour: blue", "p: colour is not known; known are lanes, shared_workers,"),
        ("shared_workers: many", "p: shared_workers must be a whole number, not 'many'."),
        ("shared_workers: true", "p: shared_workers must be a whole number, not 'true'."),
        ("shared_workers: 2026-13-45", "must be a whole number, not '2026-13-45'."),
        ("shared_workers: !!bool maybe", "p: holds what cannot be read."),
        ("[" * 5000, "p: holds what cannot be read."),
        ("tenants: {a: free, b: free, a: paid}", "p: is no YAML: a is given twice"),
        ("shared_workers: 99999999999", "p: shared_workers must be a whole number, not"),
        ("lanes: 3", "p: lanes must be a list."),
        ("lanes: [batch]", "p: lanes[0] must be a mapping."),
        ("lanes: [{lane: fast}]", "p: lanes[0].lane must be one of interactive, standard, batch"),
        ("lanes: [{time_limit: soon}]", "p: lanes[0].time_limit must be a time such as 500ms,"),
        ("lanes: [{time_limit: 99999999999999d}]", "time_limit must be a time such as 500ms,"),
        (f"lanes: [{{time_limit: {'9' * 400}s}}]", "time_limit must be a time such as 500ms,"),
        ("tenants: [a]", "p: tenants must be a mapping."),
        ("tenant_tiers: [{submits_per_second: x}]", "submits_per_second must be a number, not"),
        ("tenant_tiers: [{fail_closed: 1}]", "fail_closed must be true or false, not '1'."),
        ("tenant_tiers: [{allowed_model_tiers: fast}]", "allowed_model_tiers must be a list."),
        (
            "tenant_tiers: [{allowed_model_tiers: [gpt]}]",
            "allowed_model_tiers must be one of fast, balanced, powerful, not 'gpt'.",
        ),
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
    change(tier, {"fail_closed": "true", "allowed_model_tiers": "fast, powerful"})
    assert tier.fail_closed
    assert tier.allowed_model_tiers == [MODEL_TIER_FAST, MODEL_TIER_POWERFUL]
    change(tier, {"fail_closed": "false", "allowed_model_tiers": "none"})
    assert (tier.fail_closed, list(tier.allowed_model_tiers)) == (False, [])


@pytest.mark.parametrize(
    ("changes", "message"),
    [
        ({"speed": "1"}, "There is no setting 'speed'; there are workers, max_concurrent,"),
        ({"lane": "batch"}, "There is no setting 'lane'; there are workers,"),
        ({"workers": "2.5"}, "workers must be a whole number, not '2.5'."),
        ({"time_limit": "soon"}, "time_limit must be a time such as 500ms, 30s or 7d, not 'soon'."),
    ],
)
def test_settings_that_do_not_fit_are_told(changes: dict[str, str], message: str) -> None:
    """The settings there are, or what the value must be."""
    with pytest.raises(Problem) as caught:
        change(LanePolicy(lane=LANE_BATCH), changes)
    assert caught.value.message.startswith(message)


def test_the_difference_names_each_setting_once() -> None:
    """Changed, new and removed ones; the etag is none."""
    after = _policy()
    after.etag = "8"
    after.lanes[0].workers = 3
    after.tenants.pop("acme")
    after.tenants["umbrella"] = "free"
    after.tenant_tiers[0].ClearField("retention")
    after.tenant_tiers[0].ClearField("allowed_model_tiers")
    assert difference(_policy(), after) == [
        "~ lanes.batch.workers: 2 → 3",
        "- tenant_tiers.free.retention: 7d",
        "~ tenant_tiers.free.allowed_model_tiers: fast, balanced → all",
        "- tenants.acme: free",
        "+ tenants.umbrella: free",
    ]
    assert difference(_policy(), _policy()) == []
