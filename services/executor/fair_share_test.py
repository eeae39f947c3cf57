"""Shares of a lane, whatever comes when."""

from collections import Counter

from hypothesis import given
from hypothesis import strategies as st

from services.executor.fair_share import FairShare

_TENANTS = "abcde"
_WEIGHTS = st.fixed_dictionaries({tenant: st.integers(1, 16) for tenant in _TENANTS})
# Who begins or ceases to have work, who is served out of turn or gets a turn
# back; and turns in between.
_HISTORY = st.lists(
    st.tuples(st.sampled_from(["enter", "leave", "turn", "charge"]), st.sampled_from(_TENANTS)),
    max_size=60,
)


def _after(history: list[tuple[str, str]], weights: dict[str, int]) -> FairShare:
    share = FairShare()
    for what, tenant in history:
        match what:
            case "enter":
                share.enter(tenant)
            case "leave":
                share.leave(tenant)
            case "charge":
                share.charge(tenant, weights[tenant])
            case _:
                _turn(share, weights)
    return share


def _turn(share: FairShare, weights: dict[str, int]) -> str | None:
    tenant = share.first()
    if tenant is not None:
        share.charge(tenant, weights[tenant])
    return tenant


@given(_HISTORY, _WEIGHTS, st.sets(st.sampled_from(_TENANTS), min_size=2), st.integers(1, 200))
def test_shares_of_a_busy_lane_are_as_the_weights(
    history: list[tuple[str, str]], weights: dict[str, int], busy: set[str], turns: int
) -> None:
    """Over any time in which tenants have work, they differ by at most one task of each."""
    share = _after([each for each in history if each[0] != "charge"], weights)
    for tenant in _TENANTS:
        (share.enter if tenant in busy else share.leave)(tenant)
    served = Counter(_turn(share, weights) for _ in range(turns))
    for one in busy:
        for other in busy:
            ahead = served[one] / weights[one] - served[other] / weights[other]
            assert ahead <= 1 / weights[one] + 1 / weights[other] + 1e-9


@given(_HISTORY, _WEIGHTS, st.sets(st.sampled_from(_TENANTS), min_size=1))
def test_no_tenant_with_work_waits_for_ever(
    history: list[tuple[str, str]], weights: dict[str, int], busy: set[str]
) -> None:
    """However others were served before, each comes up while the others have their due."""
    share = _after([each for each in history if each[0] != "charge"], weights)
    for tenant in _TENANTS:
        (share.enter if tenant in busy else share.leave)(tenant)
    for tenant in busy:
        longest = sum(2 + weights[other] // weights[tenant] for other in busy)
        waited = 0
        while _turn(share, weights) != tenant:
            waited += 1
            assert waited <= longest


@given(_HISTORY, _WEIGHTS)
def test_only_tenants_with_work_are_served(
    history: list[tuple[str, str]], weights: dict[str, int]
) -> None:
    """The next tenant is one that entered and did not leave; there is one if any did."""
    share, active = _after(history, weights), set[str]()
    for what, tenant in history:
        if what == "enter":
            active.add(tenant)
        if what == "leave":
            active.discard(tenant)
    assert bool(share) == bool(active)
    assert share.first() in active if active else share.first() is None


def test_an_idle_tenant_saves_up_no_turns() -> None:
    """Who comes back after a thousand turns of another gets every second one from there on."""
    share = FairShare()
    share.enter("busy")
    for _ in range(1000):
        share.charge("busy", 1)
    share.enter("idle")
    assert [_turn(share, {"busy": 1, "idle": 1}) for _ in range(4)] == [
        "idle",
        "busy",
        "idle",
        "busy",
    ]


def test_what_was_used_while_nobody_waited_is_not_held_against_a_tenant() -> None:
    """A tenant that had the lane to itself is not behind when another comes."""
    share = FairShare()
    for _ in range(1000):
        share.charge("alone", 1)
    share.enter("alone")
    share.enter("new")
    turns = Counter(_turn(share, {"alone": 1, "new": 1}) for _ in range(10))
    assert turns == {"alone": 5, "new": 5}


def test_a_turn_that_was_of_no_use_is_given_back() -> None:
    """A refunded tenant comes next again."""
    share = FairShare()
    share.enter("one")
    share.enter("other")
    share.charge("one", 1)
    share.refund("one", 1, 1)
    share.charge("other", 1)
    assert share.first() == "one"


def test_weights_may_change_between_turns() -> None:
    """A tenant whose weight grows has more turns from then on."""
    share = FairShare()
    for tenant in ("one", "other"):
        share.enter(tenant)
    served = Counter(_turn(share, {"one": 1, "other": 1}) for _ in range(10))
    assert served == {"one": 5, "other": 5}
    served = Counter(_turn(share, {"one": 4, "other": 1}) for _ in range(10))
    assert served == {"one": 8, "other": 2}
