"""Prices are read from the price book of the mesh."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.config import ConfigError
from services.reasoning.price_list import Price, load_prices

_SHIPPED = Path(__file__).parents[1] / "governor" / "prices.yaml"
_EXPECTED = (
    "expected `versions`, each with `models`, each with the prices `input`, `output`"
    " and `cached_input`"
)


def test_the_shipped_book_prices_the_embedded_models() -> None:
    """What runs in our own processes is free by statement, not by omission."""
    prices = load_prices(_SHIPPED).present
    assert prices["offline"] == prices["minilm-l6-v2"] == Price(0, 0, 0)
    assert not prices["gpt-5-mini"].free


def test_the_newest_version_is_in_force_and_older_ones_are_kept(tmp_path: Path) -> None:
    """The last in the book prices new calls; what was admitted by an older one is found."""
    book = tmp_path / "prices.yaml"
    book.write_text("""
versions:
  - version: "1"
    models: &first
      a: {input: 9, output: 2, cached_input: 1}
      b: {input: 4, output: 5, cached_input: 3}
  - {version: "2", models: {<<: *first, a: {input: 7, output: 8, cached_input: 6}}}
""")
    prices = load_prices(book)
    assert prices.version == "2"
    assert prices.present == {"a": Price(7, 8, 6), "b": Price(4, 5, 3)}
    assert prices.versions["1"] == {"a": Price(9, 2, 1), "b": Price(4, 5, 3)}


def _book(prices: str) -> str:
    return f"versions: [{{version: a, models: {{a: {{{prices}}}}}}}]"


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("models: [", "is not YAML"),
        ("versions: [{as_of: 2025-13-01}]", "is not YAML"),
        ("versions: !!bool maybe", "is not YAML"),
        ("[" * 5000, "is not YAML"),
        ("prices: {}", _EXPECTED),
        ("versions: []", _EXPECTED),
        ("versions: [{models: {a: {input: 1, output: 1}}}]", _EXPECTED),
        (_book("input: 1, output: 1"), _EXPECTED),
        (_book("input: 1.5, output: 1, cached_input: 1"), _EXPECTED),
        (_book("input: 1, output: true, cached_input: 1"), _EXPECTED),
        (_book("input: 1, output: 1, cached_input: -1"), _EXPECTED),
    ],
)
def test_a_bad_book_is_refused_in_one_line(tmp_path: Path, content: str, complaint: str) -> None:
    """The file and what is wrong with it."""
    book = tmp_path / "prices.yaml"
    book.write_text(content)
    with pytest.raises(ConfigError) as caught:
        load_prices(book)
    assert str(caught.value) == f"{book}: {complaint}"


def test_a_missing_book_is_refused(tmp_path: Path) -> None:
    """With the cause."""
    with pytest.raises(ConfigError) as caught:
        load_prices(tmp_path / "none.yaml")
    assert str(caught.value) == (
        f"{tmp_path / 'none.yaml'}: cannot be read: No such file or directory"
    )


@given(st.integers(0, 10**9), st.integers(0, 10**9), st.integers(0, 10**10), st.integers(0, 10**10))
def test_a_cost_is_rounded_up_once(inputs: int, outputs: int, price: int, other: int) -> None:
    """Never below the exact price, and by less than one micro-USD above it."""
    cost = Price(price, other, 0).cost_micros(inputs, outputs)
    exact_millionths = inputs * price + outputs * other
    assert exact_millionths <= cost * 1_000_000 < exact_millionths + 1_000_000


def test_what_the_provider_had_cached_costs_its_own_price() -> None:
    """It is a part of the input, and not counted twice."""
    assert Price(10_000_000, 0, 1_000_000).cost_micros(100, 7, 90) == 100 + 90
