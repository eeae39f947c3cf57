"""What may be spent without asking is bounded in every minute."""

from hypothesis import given
from hypothesis import strategies as st

from meshtest.clock import FakeClock
from services.reasoning.allowance import Allowance


async def test_it_refills_evenly_up_to_its_size() -> None:
    """Half a minute gives half of it; more than all of it is never held."""
    clock = FakeClock()
    allowance = Allowance(100, 100, clock)
    assert allowance.take("acme", 100)
    assert not allowance.take("acme", 1)
    await clock.advance(30.0)
    assert not allowance.take("acme", 51)
    assert allowance.take("acme", 50)
    await clock.advance(600.0)
    assert not allowance.take("acme", 101)
    assert allowance.take("acme", 100)


def test_what_costs_nothing_is_always_left() -> None:
    """Free models run without any allowance."""
    assert Allowance(0, 0, FakeClock()).take("acme", 0)
    assert not Allowance(0, 0, FakeClock()).take("acme", 1)


def test_what_was_not_spent_is_put_back() -> None:
    """Never above its size."""
    allowance = Allowance(100, 100, FakeClock())
    assert allowance.take("acme", 60)
    allowance.give_back("acme", 60)
    allowance.give_back("acme", 60)
    assert allowance.take("acme", 100)
    assert not allowance.take("acme", 1)


async def test_no_tenant_has_all_of_it() -> None:
    """What one has used up leaves the others their part; all together have the whole."""
    clock = FakeClock()
    allowance = Allowance(100, 60, clock)
    assert not allowance.take("acme", 61)
    assert allowance.take("acme", 60)
    assert not allowance.take("acme", 1)
    assert allowance.take("globex", 40)
    assert not allowance.take("globex", 1)
    await clock.advance(30.0)
    assert allowance.take("acme", 30)
    assert not allowance.take("acme", 1)
    assert allowance.take("globex", 20)


async def test_what_a_tenant_did_not_spend_is_its_own_again() -> None:
    """Also where it was gone for so long that its part is full."""
    clock = FakeClock()
    allowance = Allowance(100, 60, clock)
    assert allowance.take("acme", 60)
    allowance.give_back("acme", 60)
    assert allowance.take("acme", 60)
    await clock.advance(61.0)
    assert allowance.take("globex", 60)
    allowance.give_back("acme", 60)
    assert allowance.take("acme", 60)
    assert not allowance.take("acme", 1)


_CALLS = st.tuples(st.sampled_from(["acme", "globex"]), st.integers(0, 90), st.integers(0, 120))


@given(st.lists(_CALLS, max_size=40))
async def test_no_span_of_time_spends_more_than_its_share(
    steps: list[tuple[str, int, int]],
) -> None:
    """At most what it holds plus what refills in the time that passed, for all and for each."""
    clock = FakeClock()
    allowance = Allowance(60, 30, clock)
    spent = {"acme": 0, "globex": 0}
    for tenant, micros, seconds in steps:
        spent[tenant] += micros if allowance.take(tenant, micros) else 0
        passed = clock.monotonic_seconds()
        assert sum(spent.values()) <= 60 + passed + 1e-6
        assert max(spent.values()) <= 30 + passed / 2 + 1e-6
        await clock.advance(float(seconds))
