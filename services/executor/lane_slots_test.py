"""Workers of lanes: their own, and borrowed ones."""

from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from services.executor.lane_slots import LaneSlots
from tasklog.policy import Policy, built_in, policy_of

_LANES = (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH)


def _policy(shared: int, *lanes: tuple[int, int]) -> Policy:
    """Workers and max_concurrent of each lane."""
    message = built_in()
    message.shared_workers = shared
    for lane, (workers, extra) in zip(message.lanes, lanes, strict=True):
        lane.workers, lane.max_concurrent = workers, workers + extra
    return policy_of(message)


_POLICIES = st.builds(
    _policy, st.integers(0, 6), *[st.tuples(st.integers(0, 5), st.integers(0, 8))] * 3
)


@given(_POLICIES, st.lists(st.sampled_from(_LANES), max_size=60))
def test_no_more_is_taken_than_there_is(policy: Policy, wanted: list[tier_pb2.Lane]) -> None:
    """Whoever comes in which order: no lane passes its limit, nor all of them the workers."""
    slots = LaneSlots(policy)
    for lane in wanted:
        if slots.free(lane) > 0:
            slots.take(lane)
    for lane in _LANES:
        assert slots.taken(lane) <= policy.lane(lane).max_concurrent
    borrowed = sum(max(0, slots.taken(lane) - policy.lane(lane).workers) for lane in _LANES)
    assert borrowed <= policy.message.shared_workers


@given(_POLICIES, st.lists(st.sampled_from(_LANES[:2]), max_size=60))
def test_a_lane_always_has_its_own_workers(policy: Policy, wanted: list[tier_pb2.Lane]) -> None:
    """However busy the other lanes are, its own workers are free for it."""
    slots = LaneSlots(policy)
    for lane in wanted:
        if slots.free(lane) > 0:
            slots.take(lane)
    batch = policy.lane(tier_pb2.LANE_BATCH)
    assert slots.free(tier_pb2.LANE_BATCH) >= batch.workers


def test_a_lane_borrows_what_others_leave() -> None:
    """Its own workers, then the shared ones, up to its limit."""
    slots = LaneSlots(_policy(4, (1, 2), (1, 9), (1, 0)))
    assert [slots.free(lane) for lane in _LANES] == [3, 5, 1]
    for _ in range(4):
        slots.take(tier_pb2.LANE_STANDARD)
    assert [slots.free(lane) for lane in _LANES] == [2, 1, 1]
    slots.release(tier_pb2.LANE_STANDARD, 4)
    assert [slots.free(lane) for lane in _LANES] == [3, 5, 1]


@given(_POLICIES, _POLICIES, st.integers(0, 20))
def test_a_smaller_policy_lets_what_runs_end(before: Policy, after: Policy, count: int) -> None:
    """Nothing new begins until there is room; then there is as much as the new policy says."""
    slots = LaneSlots(before)
    lane = tier_pb2.LANE_STANDARD
    for _ in range(min(count, slots.free(lane))):
        slots.take(lane)
    slots.resize(after)
    assert slots.free(lane) >= 0
    slots.release(lane, slots.taken(lane))
    assert slots.free(lane) == LaneSlots(after).free(lane)
