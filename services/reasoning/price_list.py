"""What models cost, read from the mesh's one price book.

The governor alone charges. Here the prices are shown by ListModels, and bound
what is spent while the governor cannot be reached.
"""

from collections.abc import Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final, cast

import yaml

from meshkit.config import ConfigError

_PER_TOKENS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Price:
    """Prices of a model in micro-USD per million tokens."""

    input: int
    output: int

    @property
    def free(self) -> bool:
        """Whether no call of this model can cost anything."""
        return self.input == self.output == 0

    def cost_micros(self, input_tokens: int, output_tokens: int) -> int:
        """What a call costs in micro-USD, rounded up as the governor does."""
        return -(-(input_tokens * self.input + output_tokens * self.output) // _PER_TOKENS)


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
    except (yaml.YAMLError, ValueError):
        raise ConfigError(f"{path}: is not YAML") from None
    try:
        listed = cast(list[dict[str, Any]], content["versions"])
        return PriceList(
            version=str(listed[-1]["version"]),
            versions={str(each["version"]): _models(each["models"]) for each in listed},
        )
    except (KeyError, IndexError, TypeError, AttributeError):
        raise ConfigError(
            f"{path}: expected `versions`, each with `models`, each with the prices `input`"
            " and `output`"
        ) from None


def _models(models: dict[str, dict[str, Any]]) -> Mapping[str, Price]:
    return {name: _price(prices) for name, prices in models.items()}


def _price(prices: dict[str, Any]) -> Price:
    price = Price(prices["input"], prices["output"])
    if type(price.input) is not int or type(price.output) is not int:
        raise TypeError
    if price.input < 0 or price.output < 0:
        raise TypeError
    return price
