"""What models cost: a file that is checked as a whole before anything starts."""

import difflib
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, fields
from datetime import date
from pathlib import Path
from typing import Any, Final, cast

import yaml

from meshkit.config import ConfigError
from meshkit.errors import NoPrice

_PER_TOKENS: Final = 1_000_000
# 10,000 dollars per million tokens: above, somebody mistook the unit.
MAX_PRICE_MICROS: Final = 10_000_000_000


@dataclass(frozen=True, slots=True)
class ModelPrice:
    """Prices of one model in micro-USD per million tokens."""

    input: int
    output: int
    # What the provider had in its prompt cache.
    cached_input: int
    # Through the provider's batch interface.
    batch_input: int
    batch_output: int

    @property
    def free(self) -> bool:
        """Whether no call of this model can cost anything."""
        return not (self.input or self.output or self.cached_input)

    def cost_micros(
        self, *, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
    ) -> int:
        """What a call costs, rounded up to whole micro-USD once, at the end.

        `cached_input_tokens` are a part of `input_tokens`. Exact: no floats.
        """
        millionths = (
            (input_tokens - cached_input_tokens) * self.input
            + cached_input_tokens * self.cached_input
            + output_tokens * self.output
        )
        return -(-millionths // _PER_TOKENS)


@dataclass(frozen=True, slots=True)
class PriceBook:
    """The prices of all models that may be called."""

    version: int
    # The day on which the prices were looked up.
    as_of: date
    models: Mapping[str, ModelPrice]

    def price(self, model: str) -> ModelPrice:
        """The price of `model`; NoPrice where the book has none."""
        price = self.models.get(model)
        if price is None:
            raise NoPrice(
                f"The model {model[:80]!r} has no price{_nearest(model, self.models) or '.'}"
                " Add it to the price book; what is free is written there as 0.",
                metadata={"model": model[:80]},
            )
        return price


def load(path: Path) -> PriceBook:
    """The price book in a YAML file; ConfigError, in one line, for anything that is not right."""
    try:
        content: Any = yaml.load(path.read_text("utf-8"), Loader=_StrictLoader)
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"{path}: cannot be read: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: is not YAML") from None
    try:
        return _read_book(content)
    except _Wrong as wrong:
        raise ConfigError(f"{path}: {wrong}") from None


class _Wrong(Exception):
    """What is wrong and where, without the file's name."""


class _StrictLoader(yaml.SafeLoader):
    """Refuses a key that is given twice, where YAML would silently take the last."""

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping in `node`, if each of its keys stands there once."""
        seen: set[str] = set()
        for key, _ in node.value:
            if not isinstance(key, yaml.ScalarNode):
                continue
            if key.value in seen:
                raise yaml.MarkedYAMLError(
                    problem=f"{key.value} is given twice", problem_mark=key.start_mark
                )
            seen.add(key.value)
        return super().construct_mapping(node, deep)


def _read_book(content: Any) -> PriceBook:
    book = _mapping(content, "", known=[each.name for each in fields(PriceBook)])
    version = book["version"]
    if type(version) is not int or version != 1:
        raise _Wrong(f"version: expected 1, the only version there is, not {version!r}")
    as_of = book["as_of"]
    if type(as_of) is not date:
        raise _Wrong(f"as_of: expected a date such as 2025-12-01, not {as_of!r}")
    models = _mapping(book["models"], "models")
    if not models:
        raise _Wrong("models: expected at least one model")
    return PriceBook(version, as_of, {name: _read_price(name, models[name]) for name in models})


def _read_price(model: str, content: Any) -> ModelPrice:
    kinds = [each.name for each in fields(ModelPrice)]
    prices = _mapping(content, f"models.{model}", known=kinds)
    for kind in kinds:
        price = prices[kind]
        if type(price) is not int or not 0 <= price <= MAX_PRICE_MICROS:
            raise _Wrong(
                f"models.{model}.{kind}: expected a whole number of micro-USD per million"
                f" tokens from 0 to {MAX_PRICE_MICROS}, not {price!r}"
            )
    return ModelPrice(**prices)


def _mapping(content: Any, where: str, *, known: list[str] | None = None) -> dict[str, Any]:
    """`content` as a mapping with text keys: exactly the `known` ones, where these are given."""
    prefix = f"{where}." if where else ""
    if not isinstance(content, dict):
        raise _Wrong(f"{where or 'the top'}: expected keys with values, not {content!r}")
    mapping = cast(dict[Any, Any], content)
    for key in mapping:
        if not isinstance(key, str):
            raise _Wrong(f"{prefix}{key}: expected a name (put it into quotes)")
        if known is not None and key not in known:
            raise _Wrong(f"{prefix}{key}: is not known{_nearest(key, known)}")
    for key in known or ():
        if key not in mapping:
            raise _Wrong(f"{prefix}{key}: is missing")
    return mapping


def _nearest(name: str, known: Iterable[str]) -> str:
    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
