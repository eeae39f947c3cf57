"""The price book's file."""

# Tables of cases have one case a line.
# ruff: noqa: E501

from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from meshkit.config import ConfigError
from services.governor.price_book import ModelPrice
from services.governor.price_file import load_prices

_SHIPPED = Path(__file__).with_name("prices.yaml")
_PRICE = "{input: 3000000, output: 15000000, cached_input: 300000, batch_input: 1500000, batch_output: 7500000}"
_GOOD = f"""
currency: USD
versions:
  - version: "1"
    as_of: 2025-12-01
    models:
      large: {_PRICE}
"""
_WHOLE = "expected a whole number of micro-USD per million tokens from 0 to 10000000000"
_NAME = 'expected a name in quotes of 1 to 40 letters, digits, ".", "_" and "-"'
_PRICE_AT = "versions[0].models.large.input"


def _refusal(path: Path, text: str) -> str:
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_prices(path)
    message = str(caught.value)
    assert message.startswith(str(path))
    assert "\n" not in message
    return message.removeprefix(str(path))


def _version(version: str, as_of: str = "2026-01-01") -> str:
    return f"  - {{version: {version}, as_of: {as_of}, models: {{large: {_PRICE}}}}}\n"


def test_a_price_may_have_its_digits_in_groups(tmp_path: Path) -> None:
    """As people read them."""
    path = tmp_path / "prices.yaml"
    path.write_text(_GOOD.replace("input: 3000000", "input: 3_000_000"), "utf-8")
    assert load_prices(path).price("large").input == 3_000_000


def test_shipped_book_states_offline_as_free_and_the_providers_as_paid() -> None:
    """The book that comes with the governor is valid, and only the models that answer are free."""
    book = load_prices(_SHIPPED)
    assert sorted(name for name, price in book.models.items() if price.free) == [
        "code-embedder",
        "minilm-l6-v2",
        "offline",
        "text-generation",
    ]
    assert book.price("claude-sonnet-4-5").cost_micros(input_tokens=1000, output_tokens=100) == 4500


def test_version_may_take_over_the_one_before_and_change_a_model(tmp_path: Path) -> None:
    """What a version does not say anew it has from the one it names, over several versions."""
    path = tmp_path / "prices.yaml"
    path.write_text(
        """
currency: USD
versions:
  - version: "1"
    as_of: 2025-12-01
    models: &first
      a: {input: 1, output: 1, cached_input: 1, batch_input: 1, batch_output: 1}
      b: {input: 1, output: 1, cached_input: 1, batch_input: 1, batch_output: 1}
  - version: "2"
    as_of: 2026-01-01
    models: &second
      <<: *first
      a: {input: 2, output: 2, cached_input: 2, batch_input: 2, batch_output: 2}
  - version: "3"
    as_of: 2026-01-01
    models:
      <<: *second
      b: {input: 3, output: 3, cached_input: 3, batch_input: 3, batch_output: 3}
""",
        "utf-8",
    )
    book = load_prices(path)
    assert book.version == "3"
    one, two, three = (ModelPrice(n, n, n, n, n) for n in (1, 2, 3))
    assert [(book.price("a", each), book.price("b", each)) for each in ("1", "2", "3")] == [
        (one, one),
        (two, one),
        (two, three),
    ]


@pytest.mark.parametrize(
    ("given", "shown"),
    [
        (".nan", "nan"),
        (".inf", "inf"),
        ("-.inf", "-inf"),
        ("-1", "-1"),
        ("3.5", "3.5"),
        ("3e6", "'3e6'"),
        ("true", "True"),
        ("10000000001", "10000000001"),
        ("'3'", "'3'"),
        ("null", "None"),
        ("9" * 200, "..."),
    ],
)
def test_price_that_is_no_whole_amount_is_refused(tmp_path: Path, given: str, shown: str) -> None:
    """NaN, infinity, negatives, fractions, truth values, text and mistaken units are named."""
    text = _GOOD.replace("input: 3000000", f"input: {given}")
    assert _refusal(tmp_path / "prices.yaml", text) == f": {_PRICE_AT}: {_WHOLE}, not {shown}"


@pytest.mark.parametrize(
    ("text", "message"),
    [
        (_GOOD.replace("cached_input: 300000, ", ""), ": versions[0].models.large.cached_input: is missing"),
        (_GOOD.replace("cached_input: 300000,", "cached_input: 3000001,"), ": versions[0].models.large.cached_input: expected at most what input costs, 3000000, not 3000001"),
        (_GOOD.replace("large: {", "large: {inputs: 1, "), ": versions[0].models.large.inputs: is not known; did you mean input?"),
        (_GOOD.replace("currency: USD", "currency: EUR"), ": currency: expected USD, the only one there is, not 'EUR'"),
        (_GOOD.replace("currency: USD\n", ""), ": currency: is missing"),
        (_GOOD + "owner: me\n", ": owner: is not known"),
        (_GOOD.replace('version: "1"', "version: 1"), f": versions[0].version: {_NAME}, not 1"),
        (_GOOD.replace('version: "1"', "version: 'a b'"), f": versions[0].version: {_NAME}, not 'a b'"),
        (_GOOD.replace('version: "1"', "version: ''"), f": versions[0].version: {_NAME}, not ''"),
        (_GOOD.replace("    as_of: 2025-12-01\n", ""), ": versions[0].as_of: is missing"),
        (_GOOD.replace("2025-12-01", "soon"), ": versions[0].as_of: expected a date such as 2025-12-01, not 'soon'"),
        (_GOOD + _version("'1'"), ": versions[1].version: '1' is given twice"),
        (_GOOD + _version("'2'", "2025-11-30"), ": versions[1].as_of: 2025-11-30 is before 2025-12-01, the date of a version above; a new version goes to the end"),
        (_GOOD.replace("large: ", "7: "), ": versions[0].models.7: expected a name (put it into quotes)"),
        (_GOOD + f"      large: {_PRICE}\n", ": line 8: large is given twice"),
        (_GOOD.replace("cached_input: 300000", "cached_input: 0300000"), ": line 7: 0300000 is 98304 in YAML; write plain digits"),
        (_GOOD.replace("batch_input: 1500000", "batch_input: 1:30:00"), ": line 7: 1:30:00 is 5400 in YAML; write plain digits"),
        ('a: !!int ""', ": holds a value that is not what its tag says"),
        ("a: !!timestamp soon", ": holds a value that is not what its tag says"),
        ("a: !!bool maybe", ": holds a value that is not what its tag says"),
        ("a: " + "[" * 5000, ": holds lists or mappings too deep in each other"),
        ("currency: USD\nversions: []\n", ": versions: expected a list of at least one version, not []"),
        ("currency: USD\nversions: {a: 1}\n", ": versions: expected a list of at least one version, not {'a': 1}"),
        ("currency: USD\nversions: [a]\n", ": versions[0]: expected keys with values, not 'a'"),
        ("currency: USD\nversions: [{version: '1', as_of: 2026-01-01, models: {}}]\n", ": versions[0].models: expected at least one model"),
        ("currency: USD\nversions: [{version: '1', as_of: 2026-01-01, models: [a]}]\n", ": versions[0].models: expected keys with values, not ['a']"),
        (_GOOD.replace("2025-12-01", "2025-13-01"), ": holds a value that cannot be read: month must be in 1..12"),
        ("", ": the top: expected keys with values, not None"),
        ("{}", ": 2 faults: (1) currency: is missing; (2) versions: is missing"),
        ("models: {", " line 1: expected the node content, but found '<stream end>'"),
        ("? [a]\n: b\n", " line 1: found unhashable key"),
        ("a: \x00", ": is not YAML"),
    ],
)  # fmt: skip
def test_malformed_book_is_refused_in_one_line(tmp_path: Path, text: str, message: str) -> None:
    """Whatever is wrong with the file, one line says where and what."""
    assert _refusal(tmp_path / "prices.yaml", text) == message


def test_all_faults_are_told_at_once(tmp_path: Path) -> None:
    """Who has mended what is named need not look for the next one."""
    text = (
        _GOOD.replace("USD", "EUR")
        .replace("input: 3000000", "input: .nan")
        .replace("batch_output: 7500000", "batch_outputs: -1")
        + _version("'1'", "2025-11-30")
        + "  - {version: '3', as_of: never}\n"
    )
    assert _refusal(tmp_path / "prices.yaml", text) == (
        ": 8 faults: (1) currency: expected USD, the only one there is, not 'EUR';"
        " (2) versions[0].models.large.batch_outputs: is not known; did you mean batch_output?;"
        " (3) versions[0].models.large.batch_output: is missing;"
        f" (4) {_PRICE_AT}: {_WHOLE}, not nan;"
        " (5) versions[1].version: '1' is given twice;"
        " (6) versions[1].as_of: 2025-11-30 is before 2025-12-01, the date of a version above;"
        " a new version goes to the end;"
        " (7) versions[2].models: is missing;"
        " (8) versions[2].as_of: expected a date such as 2025-12-01, not 'never'"
    )


def test_of_very_many_faults_the_first_are_told(tmp_path: Path) -> None:
    """The line stays one that can be read."""
    models = ", ".join(f"m{number}: 1" for number in range(25))
    text = f"currency: USD\nversions: [{{version: '1', as_of: 2026-01-01, models: {{{models}}}}}]\n"
    message = _refusal(tmp_path / "prices.yaml", text)
    assert message.startswith(": 25 faults: (1) versions[0].models.m0: expected keys with values")
    assert message.endswith(
        "; (20) versions[0].models.m19: expected keys with values, not 1; and 5 more"
    )


def test_missing_book_is_refused(tmp_path: Path) -> None:
    """A book that is not there is named."""
    with pytest.raises(ConfigError) as caught:
        load_prices(tmp_path / "none.yaml")
    assert str(caught.value) == f"{tmp_path}/none.yaml: cannot be read: No such file or directory"


@settings(
    deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.function_scoped_fixture]
)
@given(st.text(max_size=60) | st.binary(max_size=60).map(lambda each: each.decode("latin-1")))
def test_no_text_makes_it_fail_otherwise(tmp_path: Path, text: str) -> None:
    """Any file is a book or is refused in one line."""
    path = tmp_path / "prices.yaml"
    path.write_text(text, "utf-8")
    with pytest.raises(ConfigError) as caught:
        load_prices(path)
    assert "\n" not in str(caught.value).removeprefix(str(path))
