"""What models cost."""

import math
from datetime import date
from fractions import Fraction

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.errors import InvalidField, NoPrice
from services.governor.price_book import MAX_PRICE_MICROS, ModelPrice, PriceBook, PriceVersion

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_OLD, _NEW = ModelPrice(1_000_000, 0, 0, 0, 0), ModelPrice(2_000_000, 0, 0, 0, 0)
_BOOK = PriceBook(
    [
        PriceVersion("1", date(2025, 12, 1), {"large": _OLD, "retired": _OLD}),
        PriceVersion("2", date(2026, 2, 1), {"large": _NEW, "gpt-5-mini": _NEW}),
    ]
)

_prices = st.integers(0, MAX_PRICE_MICROS)
_tokens = st.integers(0, 1_000_000_000)
_models = st.builds(ModelPrice, _prices, _prices, _prices, _prices, _prices)
_calls = st.tuples(_tokens, _tokens, _tokens).map(lambda each: (each[0] + each[1], *each[1:]))


def _cost(price: ModelPrice, call: tuple[int, int, int]) -> int:
    sent, cached, received = call
    return price.cost_micros(input_tokens=sent, output_tokens=received, cached_input_tokens=cached)


def test_new_reservations_are_priced_by_the_newest_version() -> None:
    """Where no version is named, the last of the book holds."""
    assert _BOOK.version == "2"
    assert _BOOK.price("large") is _NEW
    assert _BOOK.models == {"large": _NEW, "gpt-5-mini": _NEW}


def test_settlement_is_priced_by_the_version_of_its_reservation() -> None:
    """A price that changed in between, and a model that went, change nothing about it."""
    assert _BOOK.price("large", "1") is _OLD
    assert _BOOK.price("retired", "1") is _OLD
    assert _BOOK.price("large", "2") is _NEW


def test_unknown_version_is_refused_by_name() -> None:
    """The field and what to give instead are named."""
    with pytest.raises(InvalidField) as caught:
        _BOOK.price("large", "3")
    assert str(caught.value) == (
        "price_version: there is no version '3' in the price book; give the one that the"
        " reservation was answered with, or none for the present one, '2'"
    )
    assert [each.field for each in caught.value.violations] == ["price_version"]


@pytest.mark.parametrize(
    ("model", "version", "message"),
    [
        ("gpt-5-minni", "", "The model 'gpt-5-minni' has no price; did you mean gpt-5-mini?"),
        ("retired", "", "The model 'retired' has no price."),
        ("zzz", "1", "The model 'zzz' has no price in version '1' of the price book."),
    ],
)
def test_model_without_price_is_refused(model: str, version: str, message: str) -> None:
    """A model that the version does not list has no price, and is not free."""
    with pytest.raises(NoPrice) as caught:
        _BOOK.price(model, version)
    assert str(caught.value) == (
        f"{message} Add it to the price book; what is free is written there as 0."
    )
    assert caught.value.metadata == {"model": model}


@_PATIENT
@given(_models, _calls)
def test_cost_is_the_exact_sum_rounded_up_once(
    price: ModelPrice, call: tuple[int, int, int]
) -> None:
    """The cost is the smallest whole amount that is not below the exact one."""
    sent, cached, received = call
    exact = (
        Fraction(sent - cached) * price.input
        + Fraction(cached) * price.cached_input
        + Fraction(received) * price.output
    ) / 1_000_000
    assert _cost(price, call) == math.ceil(exact)


@_PATIENT
@given(_models, st.lists(_calls, min_size=1, max_size=20))
def test_calls_cost_no_less_one_by_one_than_together(
    price: ModelPrice, calls: list[tuple[int, int, int]]
) -> None:
    """Rounding up costs whoever pays less than one micro-USD a call, and never gives any away."""
    together = _cost(
        price, (sum(c[0] for c in calls), sum(c[1] for c in calls), sum(c[2] for c in calls))
    )
    one_by_one = sum(_cost(price, call) for call in calls)
    assert together <= one_by_one < together + len(calls)


@_PATIENT
@given(_models, _calls, _calls)
def test_more_tokens_never_cost_less(
    price: ModelPrice, call: tuple[int, int, int], more: tuple[int, int, int]
) -> None:
    """So a reservation for the most that a call can use covers whatever it uses."""
    larger = (call[0] + more[0], call[1] + more[1], call[2] + more[2])
    assert 0 <= _cost(price, call) <= _cost(price, larger)


@given(_models)
def test_only_a_model_that_cannot_cost_anything_is_free(price: ModelPrice) -> None:
    """One that is free costs nothing for any number of tokens; any other costs at least one."""
    assert price.free == (_cost(price, (2_000_000, 1_000_000, 1_000_000)) == 0)
