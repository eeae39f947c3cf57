"""Prices are read from the price book of the mesh."""

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from meshkit.config import ConfigError
from services.reasoning.price_list import Price, load_prices

_SHIPPED = Path(__file__).parents[1] / "governor" / "prices.yaml"


def test_the_shipped_book_prices_the_embedded_models() -> None:
    """What runs in our own processes is free by statement, not by omission."""
    prices = load_prices(_SHIPPED)
    assert prices["offline"] == prices["minilm-l6-v2"] == Price(0, 0)
    assert not prices["gpt-5-mini"].free


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        ("models: [", "is not YAML"),
        ("prices: {}", "expected `models`, each with the prices `input` and `output`"),
        ("models: {a: {input: 1}}", "expected `models`, each with the prices `input` and `output`"),
        (
            "models: {a: {input: 1.5, output: 1}}",
            "expected `models`, each with the prices `input` and `output`",
        ),
        (
            "models: {a: {input: -1, output: 1}}",
            "expected `models`, each with the prices `input` and `output`",
        ),
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
    cost = Price(price, other).cost_micros(inputs, outputs)
    exact_millionths = inputs * price + outputs * other
    assert exact_millionths <= cost * 1_000_000 < exact_millionths + 1_000_000
