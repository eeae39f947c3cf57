"""Reads the price book's file, and tells everything that is wrong with it at once."""

import re
from collections.abc import Sequence
from dataclasses import fields
from datetime import date
from pathlib import Path
from typing import Any, Final, cast

import yaml

from meshkit.config import ConfigError
from services.governor.price_book import (
    MAX_PRICE_MICROS,
    ModelPrice,
    PriceBook,
    PriceVersion,
    nearest,
)

# The one that budgets are in: nothing here converts.
_CURRENCY: Final = "USD"
_VERSION: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9._-]{0,39}")
# What nobody reads as another number than YAML does.
_PLAIN: Final = re.compile(r"[-+]?(0|[1-9][0-9_]*)")
_BOOK_KEYS: Final = ("currency", "versions")
_VERSION_KEYS: Final = tuple(each.name for each in fields(PriceVersion))
_PRICES: Final = tuple(each.name for each in fields(ModelPrice))
# Whoever made so many at once made one, in the file's form.
_MOST_TOLD: Final = 20


def load_prices(path: Path) -> PriceBook:
    """The price book in a YAML file; ConfigError, in one line, with all that is not right."""
    try:
        loader = _Loader(path.read_text("utf-8"))
        content: Any = loader.get_single_data()
    except OSError as error:
        raise ConfigError(f"{path}: cannot be read: {error.strerror}") from None
    except UnicodeError:
        raise ConfigError(f"{path}: cannot be read: not UTF-8 text") from None
    except yaml.MarkedYAMLError as error:
        line = f" line {error.problem_mark.line + 1}" if error.problem_mark else ""
        raise ConfigError(f"{path}{line}: {error.problem}") from None
    except yaml.YAMLError:
        raise ConfigError(f"{path}: is not YAML") from None
    except RecursionError:
        raise ConfigError(f"{path}: holds lists or mappings too deep in each other") from None
    except ValueError as error:
        # A date that the calendar does not have, a number of thousands of digits.
        raise ConfigError(f"{path}: holds a value that cannot be read: {error}") from None
    except (AttributeError, LookupError):
        # So YAML fails at a tag over what is nothing of the kind, such as `!!bool maybe`.
        raise ConfigError(f"{path}: holds a value that is not what its tag says") from None
    reader = _Reader(loader.faults)
    versions = reader.versions(content)
    if reader.faults:
        raise ConfigError(f"{path}: {_told(reader.faults)}")
    return PriceBook(versions)


def _told(faults: Sequence[str]) -> str:
    if len(faults) == 1:
        return faults[0]
    told = "; ".join(f"({number}) {each}" for number, each in enumerate(faults[:_MOST_TOLD], 1))
    more = "" if len(faults) <= _MOST_TOLD else f"; and {len(faults) - _MOST_TOLD} more"
    return f"{len(faults)} faults: {told}{more}"


class _Loader(yaml.SafeLoader):
    """Notes what YAML would silently make something of that nobody meant.

    A key that is given twice, where the last would hold; and a number that is not read as it
    looks: by YAML 0300000 is octal, and 1:30 counts by sixties.
    """

    def __init__(self, text: str) -> None:
        super().__init__(text)
        self.faults: Final[list[str]] = []

    def construct_mapping(self, node: yaml.MappingNode, deep: bool = False) -> dict[Any, Any]:
        """The mapping in `node`. A key that `<<` brought along may be given again."""
        seen: set[str] = set()
        for key, _ in node.value:
            if isinstance(key, yaml.ScalarNode):
                if key.value in seen:
                    line = key.start_mark.line + 1
                    self.faults.append(f"line {line}: {key.value} is given twice")
                seen.add(key.value)
        return super().construct_mapping(node, deep)

    def construct_yaml_int(self, node: yaml.ScalarNode) -> int:
        """The number in `node`."""
        number = super().construct_yaml_int(node)
        written = self.construct_scalar(node)
        if not _PLAIN.fullmatch(written):
            line = node.start_mark.line + 1
            self.faults.append(
                f"line {line}: {written[:80]} is {number} in YAML; write plain digits"
            )
        return number


_Loader.add_constructor("tag:yaml.org,2002:int", _Loader.construct_yaml_int)


class _Reader:
    """Makes versions of what was read, and goes on after a fault to find the others."""

    def __init__(self, faults: Sequence[str]) -> None:
        self.faults: Final = list(faults)

    def versions(self, content: Any) -> list[PriceVersion]:
        """The book's versions; they count only where `faults` is empty."""
        book = self._mapping(content, "", _BOOK_KEYS)
        currency = book.get("currency", _CURRENCY)
        if currency != _CURRENCY:
            self._fault("currency", f"expected {_CURRENCY}, the only one there is", currency)
        listed: Any = book.get("versions")
        if not isinstance(listed, list) or not listed:
            if "versions" in book:
                self._fault("versions", "expected a list of at least one version", listed)
            return []
        versions: list[PriceVersion] = []
        for index, each in enumerate(cast(list[Any], listed)):
            versions.append(self._version(each, f"versions[{index}]", versions))
        return versions

    def _version(self, content: Any, where: str, before: Sequence[PriceVersion]) -> PriceVersion:
        given = self._mapping(content, where, _VERSION_KEYS)
        return PriceVersion(
            self._name(given["version"], f"{where}.version", before) if "version" in given else "",
            self._as_of(given["as_of"], f"{where}.as_of", before) if "as_of" in given else date.min,
            self._models(given["models"], f"{where}.models") if "models" in given else {},
        )

    def _name(self, given: Any, where: str, before: Sequence[PriceVersion]) -> str:
        if not isinstance(given, str) or not _VERSION.fullmatch(given):
            self._fault(
                where,
                'expected a name in quotes of 1 to 40 letters, digits, ".", "_" and "-"',
                given,
            )
            return ""
        if given in [each.version for each in before]:
            self.faults.append(f"{where}: {given!r} is given twice")
        return given

    def _as_of(self, given: Any, where: str, before: Sequence[PriceVersion]) -> date:
        if type(given) is not date:
            self._fault(where, "expected a date such as 2025-12-01", given)
            return date.min
        latest = max((each.as_of for each in before), default=date.min)
        if given < latest:
            self.faults.append(
                f"{where}: {given} is before {latest}, the date of a version above;"
                " a new version goes to the end"
            )
        return given

    def _models(self, content: Any, where: str) -> dict[str, ModelPrice]:
        models = self._mapping(content, where)
        if content == {}:
            self.faults.append(f"{where}: expected at least one model")
        return {name: self._price(prices, f"{where}.{name}") for name, prices in models.items()}

    def _price(self, content: Any, where: str) -> ModelPrice:
        before = len(self.faults)
        given = self._mapping(content, where, _PRICES)
        for kind, price in given.items():
            if type(price) is not int or not 0 <= price <= MAX_PRICE_MICROS:
                self._fault(
                    f"{where}.{kind}",
                    "expected a whole number of micro-USD per million tokens from 0 to"
                    f" {MAX_PRICE_MICROS}",
                    price,
                )
        if len(self.faults) == before and given["cached_input"] > given["input"]:
            # What is reserved for a call supposes that nothing of its input was cached.
            self._fault(
                f"{where}.cached_input",
                f"expected at most what input costs, {given['input']}",
                given["cached_input"],
            )
        return ModelPrice(**{kind: given.get(kind, 0) for kind in _PRICES})

    def _mapping(
        self, content: Any, where: str, known: Sequence[str] | None = None
    ) -> dict[str, Any]:
        """What stands under the `known` keys, or under all names where these are not given."""
        prefix = f"{where}." if where else ""
        if not isinstance(content, dict):
            self._fault(where or "the top", "expected keys with values", content)
            return {}
        found: dict[str, Any] = {}
        for key, value in cast(dict[Any, Any], content).items():
            if not isinstance(key, str):
                self.faults.append(f"{prefix}{key}: expected a name (put it into quotes)")
            elif known is not None and key not in known:
                self.faults.append(f"{prefix}{key}: is not known{nearest(key, known)}")
            else:
                found[key] = value
        self.faults.extend(f"{prefix}{key}: is missing" for key in known or () if key not in found)
        return found

    def _fault(self, where: str, expected: str, given: Any) -> None:
        shown = repr(given)
        self.faults.append(f"{where}: {expected}, not {shown if len(shown) <= 80 else '...'}")
