"""What a lease holds is given out once, and what the next one should hold follows its use."""

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.reasoning.lease import Demand, Lease, Terms
from services.reasoning.model import Tier

_GRANTED = 1_000


def _lease(micros: int = _GRANTED) -> Lease:
    return Lease(
        "acme",
        Terms(
            lease="l",
            micros=micros,
            ends_at=60.0,
            price_version="1",
            prices={},
            asks_for_sessions=False,
            tiers=frozenset(),
        ),
    )


def test_a_call_takes_what_is_free_and_no_more() -> None:
    """The last micro-USD is given out; the next is not."""
    lease = _lease()
    assert lease.take(600)
    assert not lease.take(401)
    assert lease.take(400)
    assert lease.take(0)
    assert not lease.take(1)


def test_what_a_call_did_not_cost_is_free_again() -> None:
    """600 set aside, 200 spent: 400 of it can be taken at once."""
    lease = _lease()
    assert lease.take(600)
    assert lease.spend(600, 200) == 200
    assert (lease.free_micros, lease.bound_micros) == (800, 200)
    lease.settled(200)
    assert (lease.free_micros, lease.bound_micros) == (800, 0)


def test_a_call_that_cost_more_than_was_set_aside_takes_it_from_what_is_free() -> None:
    """Where there is not as much, its settlement takes less of the lease than it cost."""
    lease = _lease()
    assert lease.take(100)
    assert lease.spend(100, 300) == 300
    assert lease.take(100)
    assert lease.spend(100, 5_000) == 700
    assert lease.free_micros == 0


def test_only_what_has_to_stay_is_kept_when_it_is_trimmed() -> None:
    """Calls in flight and settlements that are not known yet."""
    lease = _lease()
    assert lease.take(100)
    assert lease.take(300)
    lease.spend(300, 50)
    assert lease.trim() == 150
    assert not lease.take(1)
    # The settlement may have been counted first, so that 50 too many are kept.
    assert lease.has_leftovers


def test_a_settlement_that_is_refused_leaves_its_part_over() -> None:
    """Nothing will turn that into spending."""
    lease = _lease()
    assert lease.take(_GRANTED)
    lease.spend(_GRANTED, _GRANTED)
    assert not lease.has_leftovers
    lease.refused(_GRANTED)
    assert lease.has_leftovers
    assert lease.bound_micros == 0


class _LeaseMachine(RuleBasedStateMachine):
    """Any order of calls: the governor never holds less than has been given out."""

    def __init__(self) -> None:
        super().__init__()
        self.lease = _lease()
        # What the governor holds, if nothing else is reserved for it.
        self.reserved = _GRANTED
        self.held: list[int] = []
        self.due: list[int] = []

    @rule(micros=st.integers(0, 2 * _GRANTED))
    def take(self, micros: int) -> None:
        free = self.lease.free_micros
        assert self.lease.take(micros) == (micros <= free)
        if micros <= free:
            self.held.append(micros)

    @precondition(lambda self: self.held)
    @rule()
    def give_back(self) -> None:
        self.lease.give_back(self.held.pop())

    @precondition(lambda self: self.held)
    @rule(cost=st.integers(0, 2 * _GRANTED))
    def spend(self, cost: int) -> None:
        taken = self.lease.spend(self.held.pop(), cost)
        assert taken <= cost
        self.due.append(taken)

    @precondition(lambda self: self.due)
    @rule(known=st.booleans())
    def settle(self, known: bool) -> None:
        micros = self.due.pop()
        if known:
            self.reserved -= micros
            self.lease.settled(micros)
        else:
            self.lease.refused(micros)

    @rule()
    def trim(self) -> None:
        self.reserved = min(self.reserved, self.lease.trim())

    @invariant()
    def nothing_is_given_out_twice(self) -> None:
        lease = self.lease
        assert min(lease.free_micros, lease.held_micros, lease.due_micros) >= 0
        assert lease.bound_micros == sum(self.held) + sum(self.due)
        assert lease.free_micros + lease.bound_micros == self.reserved


TestLease = _LeaseMachine.TestCase
TestLease.settings = settings(max_examples=50, stateful_step_count=30, deadline=None)


@pytest.mark.parametrize(
    ("tiers", "asks_for_sessions", "tier", "session", "covered"),
    [
        (frozenset[Tier](), False, Tier.POWERFUL, "s", True),
        (frozenset({Tier.FAST}), False, Tier.FAST, "", True),
        (frozenset({Tier.FAST}), False, Tier.BALANCED, "", False),
        (frozenset[Tier](), True, Tier.FAST, "", True),
        (frozenset[Tier](), True, Tier.FAST, "s", False),
    ],
)
def test_terms_say_which_calls_are_covered(
    tiers: frozenset[Tier], asks_for_sessions: bool, tier: Tier, session: str, covered: bool
) -> None:
    """A tier that is not allowed, and a session with a budget, have to be asked for."""
    terms = Terms("l", 1, 1.0, "1", {}, asks_for_sessions, tiers)
    assert terms.cover(tier, session) is covered


def test_a_lease_covers_what_the_last_seconds_used_and_what_is_in_flight() -> None:
    """At a steady ten calls a second of 30 micro-USD, ten seconds cost 3,000."""
    demand = Demand(10.0, 0.0)
    for number in range(2_000):
        demand.asked(100, number / 10)
        demand.spent(30)
    assert demand.micros(500) == pytest.approx(3_000 + 100 + 500, rel=0.02)
    assert demand.low_micros() == pytest.approx(3_000 / 4 + 100, rel=0.02)
    assert demand.calls == pytest.approx(100, rel=0.02)


@given(st.floats(0, 1e6), st.integers(0, 10**12))
def test_demand_fades(seconds: float, micros: int) -> None:
    """After a while nothing is needed any more; a clock that stands still changes nothing."""
    demand = Demand(10.0, 0.0)
    demand.asked(micros, 0.0)
    demand.asked(0, 0.0)
    assert demand.calls == 2.0
    assert demand.micros(0) == micros
    demand.asked(0, seconds)
    assert demand.micros(0) <= micros
    demand.asked(0, seconds + 1_000.0)
    assert demand.calls < 1.01
    assert demand.micros(0) <= 1
