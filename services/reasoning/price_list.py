"""What models cost, read from the mesh's one price book.

The governor alone charges. Here the prices are shown by ListModels, and bound
what is spent while the governor cannot be reached.
"""

import json
import re
from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import yaml

from meshkit.config import ConfigError

_PER_TOKENS: Final = 1_000_000
# A name that needs no quotes in YAML.
_PLAIN: Final = re.compile(r"[A-Za-z][\w.-]*", re.ASCII)
# In the order of Price.
_NAMES: Final = ("input", "output", "cached_input")


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a model in micro-USD per million tokens."""

    input: int
    output: int
    # Of input tokens that the provider had cached.
    cached_input: int

    @property
    def free(self) -> bool:
        """Whether no call of this model can cost anything."""
        return not (self.input or self.output or self.cached_input)

    def cost_micros(
        self, input_tokens: int, output_tokens: int, cached_input_tokens: int = 0
    ) -> int:
        """What a call costs in micro-USD, rounded up as the governor does.

        `cached_input_tokens` are a part of `input_tokens`.
        """
        millionths = (
            (input_tokens - cached_input_tokens) * self.input
            + cached_input_tokens * self.cached_input
            + output_tokens * self.output
        )
        return -(-millionths // _PER_TOKENS)


@dataclass(frozen=True, slots=True)
class PriceList:
    """The prices of all models, by version of the price book."""

    # The newest.
    version: str
    versions: Mapping[str, Mapping[str, Price]]

    @property
    def present(self) -> Mapping[str, Price]:
        """The prices of the newest version, by model."""
        return self.versions[self.version]


def load_prices(path: Path) -> PriceList:
    """The prices in the book; ConfigError where it cannot be read.

    The governor checks the book as a whole; here only what is used.
    """
    try:
        content: Any = yaml.safe_load(path.read_text("utf-8"))
    except (OSError, UnicodeError) as error:
        cause = error.strerror if isinstance(error, OSError) else "not UTF-8 text"
        raise ConfigError(f"{path}: cannot be read: {cause}") from None
    except (yaml.YAMLError, ValueError, AttributeError, LookupError, RecursionError):
        # The last ones are of a tag over what is nothing of the kind, and of a depth without end.
        raise ConfigError(f"{path}: is not YAML") from None
    try:
        listed = cast(list[dict[str, Any]], content["versions"])
        return PriceList(
            version=str(listed[-1]["version"]),
            versions={str(each["version"]): _models(each["models"]) for each in listed},
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ConfigError(
            f"{path}: expected `versions`, each with `models`, each with the prices `input`,"
            " `output` and `cached_input`"
        ) from None


def price_line(model: str) -> str:
    """A line of the book for a model, with prices that are yet to be put in."""
    name = model if _PLAIN.fullmatch(model) else json.dumps(model)
    return f"{name}: {{input: 0, output: 0, cached_input: 0, batch_input: 0, batch_output: 0}}"


def _models(models: dict[str, dict[str, Any]]) -> Mapping[str, Price]:
    return {name: _price(prices) for name, prices in models.items()}


def _price(prices: dict[str, Any]) -> Price:
    given = [prices[name] for name in _NAMES]
    if not all(type(each) is int and each >= 0 for each in given):
        raise TypeError
    return Price(*given)
