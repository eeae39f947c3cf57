"""What models cost, now and when a call was admitted."""

import difflib
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Final

from meshkit.errors import InvalidField, NoPrice

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
class PriceVersion:
    """The prices that were in force from one change of the book to the next."""

    # Goes with every reservation, so that it is settled by the same prices.
    version: str
    # The day on which the prices were looked up.
    as_of: date
    models: Mapping[str, ModelPrice]


class PriceBook:
    """The prices of all models that may be called: the present ones, and those before."""

    def __init__(self, versions: Sequence[PriceVersion]) -> None:
        """`versions`: the oldest first; at least one, each with a name of its own."""
        self._newest: Final = versions[-1]
        self._versions: Final = {each.version: each for each in versions}

    @property
    def version(self) -> str:
        """The version by which new reservations are made: the newest."""
        return self._newest.version

    @property
    def models(self) -> Mapping[str, ModelPrice]:
        """The prices of the newest version, by model."""
        return self._newest.models

    def price(self, model: str, version: str = "") -> ModelPrice:
        """The price of `model` in `version`, or in the newest.

        Raises NoPrice where that version has none, and InvalidField for a version
        that the book does not have.
        """
        prices = self._versions.get(version) if version else self._newest
        if prices is None:
            raise InvalidField(
                "price_version",
                f"there is no version {version[:40]!r} in the price book; give the one that the"
                f" reservation was answered with, or none for the present one, {self.version!r}",
            )
        price = prices.models.get(model)
        if price is None:
            of_version = f" in version {version!r} of the price book" if version else ""
            raise NoPrice(
                f"The model {model[:80]!r} has no price{of_version}"
                f"{nearest(model, prices.models) or '.'}"
                " Add it to the price book; what is free is written there as 0.",
                metadata={"model": model[:80]},
            )
        return price


def nearest(name: str, known: Iterable[str]) -> str:
    """A question for the known name that `name` may stand for; empty where none is like it."""
    close = difflib.get_close_matches(name[:80], list(known), n=1, cutoff=0.5)
    return f"; did you mean {close[0]}?" if close else ""
