"""What may be spent without asking is bounded in every minute."""

from hypothesis import given
from hypothesis import strategies as st

from meshtest.clock import FakeClock
from services.reasoning.allowance import Allowance


async def test_it_refills_evenly_up_to_its_size() -> None:
    """Half a minute gives half of it; more than all of it is never held."""
    clock = FakeClock()
    allowance = Allowance(100, clock)
    assert allowance.take(100)
    assert not allowance.take(1)
    await clock.advance(30.0)
    assert not allowance.take(51)
    assert allowance.take(50)
    await clock.advance(600.0)
    assert not allowance.take(101)
    assert allowance.take(100)


def test_what_costs_nothing_is_always_left() -> None:
    """Free models run without any allowance."""
    assert Allowance(0, FakeClock()).take(0)
    assert not Allowance(0, FakeClock()).take(1)


def test_what_was_not_spent_is_put_back() -> None:
    """Never above its size."""
    allowance = Allowance(100, FakeClock())
    assert allowance.take(60)
    allowance.give_back(60)
    allowance.give_back(60)
    assert allowance.take(100)
    assert not allowance.take(1)


@given(st.lists(st.tuples(st.integers(0, 90), st.integers(0, 120)), max_size=40))
async def test_no_span_of_time_spends_more_than_its_share(steps: list[tuple[int, int]]) -> None:
    """At most what it holds plus what refills in the time that passed."""
    clock = FakeClock()
    allowance = Allowance(60, clock)
    spent = 0
    for micros, seconds in steps:
        spent += micros if allowance.take(micros) else 0
        assert spent <= 60 + clock.monotonic_seconds() + 1e-6
        await clock.advance(float(seconds))
