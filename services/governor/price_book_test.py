"""The price book."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import math
from fractions import Fraction
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.config import ConfigError
from meshkit.errors import NoPrice
from services.governor import price_book
from services.governor.price_book import MAX_PRICE_MICROS, ModelPrice

# Busy machines are slow, and that is no fault of what is tested.
_PATIENT = settings(deadline=None, suppress_health_check=[HealthCheck.too_slow])
_SHIPPED = Path(__file__).with_name("prices.yaml")
_GOOD = """
version: 1
as_of: 2025-12-01
models:
  large: {input: 3000000, output: 15000000, cached_input: 300000, batch_input: 1500000, batch_output: 7500000}
"""

_prices = st.integers(0, MAX_PRICE_MICROS)
_tokens = st.integers(0, 1_000_000_000)


def test_shipped_book_states_offline_as_free_and_the_providers_as_paid() -> None:
    """The book that comes with the governor is valid, and only the models that answer are free."""
    book = price_book.load(_SHIPPED)
    assert sorted(name for name, price in book.models.items() if price.free) == [
        "minilm-l6-v2",
        "offline",
    ]
    assert book.price("claude-sonnet-4-5").cost_micros(input_tokens=1000, output_tokens=100) == 4500


def test_model_without_price_is_refused_with_the_nearest_name() -> None:
    """A model that the book does not list has no price, and is not free."""
    with pytest.raises(NoPrice) as caught:
        price_book.load(_SHIPPED).price("gpt-5-minni")
    assert str(caught.value) == (
        "The model 'gpt-5-minni' has no price; did you mean gpt-5-mini?"
        " Add it to the price book; what is free is written there as 0."
    )
    assert caught.value.metadata == {"model": "gpt-5-minni"}


@pytest.mark.parametrize(
    ("wrong", "right", "message"),
    [
        (".nan", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not nan"),
        (".inf", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not inf"),
        ("-1", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not -1"),
        ("3.5", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not 3.5"),
        ("true", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not True"),
        ("10000000001", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not 10000000001"),
        ("'3'", "input: 3000000", "models.large.input: expected a whole number of micro-USD per million tokens from 0 to 10000000000, not '3'"),
    ],
)  # fmt: skip
def test_price_that_is_no_whole_amount_is_refused(
    tmp_path: Path, wrong: str, right: str, message: str
) -> None:
    """NaN, infinity, negatives, fractions, truth values, text and mistaken units are named."""
    path = tmp_path / "prices.yaml"
    path.write_text(_GOOD.replace(right, f"input: {wrong}"), "utf-8")
    with pytest.raises(ConfigError) as caught:
        price_book.load(path)
    assert str(caught.value) == f"{path}: {message}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_GOOD.replace("cached_input: 300000, ", ""), ": models.large.cached_input: is missing"),
        (_GOOD.replace("output:", "outputs:", 1), ": models.large.outputs: is not known; did you mean output?"),
        (_GOOD.replace("version: 1", "version: 2"), ": version: expected 1, the only version there is, not 2"),
        (_GOOD.replace("version: 1\n", ""), ": version: is missing"),
        (_GOOD.replace("2025-12-01", "soon"), ": as_of: expected a date such as 2025-12-01, not 'soon'"),
        (_GOOD.replace("large: ", "7: "), ": models.7: expected a name (put it into quotes)"),
        (_GOOD + "  large: {}\n", " line 6: large is given twice"),
        ("version: 1\nas_of: 2025-12-01\nmodels: {}\n", ": models: expected at least one model"),
        ("version: 1\nas_of: 2025-12-01\nmodels: [a]\n", ": models: expected keys with values, not ['a']"),
        ("", ": the top: expected keys with values, not None"),
        ("models: {", " line 1: expected the node content, but found '<stream end>'"),
        ("? [a]\n: b\n", " line 1: found unhashable key"),
    ],
)  # fmt: skip
def test_malformed_book_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """Whatever is wrong with the file, one line says where and what."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        price_book.load(path)
    assert str(caught.value) == f"{path}{message}"


def test_missing_book_is_refused(tmp_path: Path) -> None:
    """A book that is not there is named."""
    with pytest.raises(ConfigError) as caught:
        price_book.load(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"


@_PATIENT
@given(_prices, _prices, _prices, _tokens, _tokens, st.data())
def test_cost_is_the_exact_sum_rounded_up_once(
    per_input: int, per_output: int, per_cached: int, sent: int, received: int, data: st.DataObject
) -> None:
    """The cost is the smallest whole amount that is not below the exact one."""
    cached = data.draw(st.integers(0, sent))
    price = ModelPrice(per_input, per_output, per_cached, 0, 0)
    exact = (
        Fraction(sent - cached) * per_input
        + Fraction(cached) * per_cached
        + Fraction(received) * per_output
    ) / 1_000_000
    cost = price.cost_micros(input_tokens=sent, output_tokens=received, cached_input_tokens=cached)
    assert cost == math.ceil(exact)
