"""Recognises that an amount is wanted in another unit, and writes it for a calculator."""

import re
from dataclasses import dataclass
from decimal import Decimal
from typing import Final

from services.reasoning.offline.small_numbers import NUMBER, number

# Each kind of amount in its own unit, and how much of that a unit is. Exact by
# definition, but for the year and the month, which are left out: they differ.
_LENGTH: Final = {
    "mm millimeter millimetre": "0.001",
    "cm centimeter centimetre": "0.01",
    "dm decimeter decimetre": "0.1",
    "m meter metre": "1",
    "km kilometer kilometre": "1000",
    "in inch inches": "0.0254",
    "ft foot feet": "0.3048",
    "yd yard": "0.9144",
    "mi mile": "1609.344",
    "nmi nautical_mile": "1852",
}
_MASS: Final = {
    "mg milligram": "0.001",
    "g gram gramme": "1",
    "kg kilo kilogram kilogramme": "1000",
    "t tonne metric_ton": "1000000",
    "oz ounce": "28.349523125",
    "lb lbs pound": "453.59237",
    "stone": "6350.29318",
}
_VOLUME: Final = {
    "ml milliliter millilitre": "0.001",
    "cl centiliter centilitre": "0.01",
    "l liter litre": "1",
    "cubic_meter cubic_metre": "1000",
    "us_gallon": "3.785411784",
    "imperial_gallon uk_gallon": "4.54609",
}
_TIME: Final = {
    "ms millisecond": "0.001",
    "s sec second": "1",
    "min minute": "60",
    "h hr hour": "3600",
    "d day": "86400",
    "week": "604800",
    "fortnight": "1209600",
}
_SPEED: Final = {
    "m/s meters_per_second metres_per_second": "1",
    "km/h kph kmh kilometers_per_hour kilometres_per_hour": "1000 / 3600",
    "mph miles_per_hour": "0.44704",
    "knot": "1852 / 3600",
}
_DATA: Final = {
    "bit": "0.125",
    "b byte": "1",
    "kb kilobyte": "1000",
    "mb megabyte": "1000000",
    "gb gigabyte": "1000000000",
    "tb terabyte": "1000000000000",
    "kib kibibyte": "1024",
    "mib mebibyte": "1048576",
    "gib gibibyte": "1073741824",
    "tib tebibyte": "1099511627776",
}
_AREA: Final = {
    "square_centimeter square_centimetre": "0.0001",
    "square_meter square_metre sqm": "1",
    "hectare ha": "10000",
    "square_kilometer square_kilometre": "1000000",
    "square_foot square_feet sqft": "0.09290304",
    "acre": "4046.8564224",
    "square_mile": "2589988.110336",
}
_CELSIUS: Final = frozenset(["c", "°c", "celsius", "degrees celsius", "degree celsius"])
_FAHRENHEIT: Final = frozenset(["f", "°f", "fahrenheit", "degrees fahrenheit", "degree fahrenheit"])
_KELVIN: Final = frozenset(["k", "kelvin", "degrees kelvin"])


def _units() -> dict[str, tuple[str, str]]:
    """Kind and factor of each unit, by all that it is called."""
    kinds = (_LENGTH, _MASS, _VOLUME, _TIME, _SPEED, _DATA, _AREA)
    known: dict[str, tuple[str, str]] = {}
    for kind, units in enumerate(kinds):
        for names, factor in units.items():
            for name in names.split():
                spoken = name.replace("_", " ")
                known[spoken] = (str(kind), factor)
                # Abbreviations have no plural: "ms" is no more than one "m".
                if len(spoken) > 3 or spoken == "day":
                    known[f"{spoken}s"] = (str(kind), factor)
    return known


_UNITS: Final = _units()
_TEMPERATURES: Final = _CELSIUS | _FAHRENHEIT | _KELVIN
_ANY_UNIT: Final = "|".join(
    re.escape(each) for each in sorted([*_UNITS, *_TEMPERATURES], key=len, reverse=True)
)
_UNIT: Final = rf"(?:{_ANY_UNIT})(?![\w°/])"
_AMOUNT: Final = rf"-?\s?{NUMBER}\s{{0,2}}-?(?:{_UNIT})"
_AMOUNTS: Final = rf"{_AMOUNT}(?:\s{{0,2}}(?:,|and)?\s{{0,2}}{_AMOUNT}){{0,2}}"
_END: Final = r"\s*(?:please|exactly|now)?\s*[?.!]*\s*$"
_FORMS: Final = (
    re.compile(
        r"^(?:please\s+)?(?:convert|change|turn|express|what\s+is|what\s+are|what's|how\s+much\s+is"
        rf"|how\s+long\s+is)?\s*(?P<amounts>{_AMOUNTS})\s+(?:in|to|into|as)\s+(?P<unit>{_UNIT}){_END}",
        re.IGNORECASE,
    ),
    re.compile(
        rf"^(?:so\s+)?how\s+many\s+(?P<unit>{_UNIT})\s+(?:(?:is|are)\s+(?:there\s+)?in|in|is|are|make|make\s+up"
        rf"|does)\s+(?:the\s+)?(?P<amounts>{_AMOUNTS})(?:\s+(?:have|has|contain|make))?{_END}",
        re.IGNORECASE,
    ),
)
_PART: Final = re.compile(
    rf"(?P<sign>-?)\s?(?P<number>{NUMBER})\s{{0,2}}-?(?P<unit>{_UNIT})", re.IGNORECASE
)


@dataclass(frozen=True, slots=True)
class Conversion:
    """An amount that is wanted in another unit."""

    # As the clause says them: `5 miles`, `km`.
    phrase: str
    unit: str
    # For a calculator: `5 * 1609.344 / 1000`.
    expression: str


def find_conversion(clause: str) -> Conversion | None:
    """The conversion that is all that `clause` asks for; None where it asks for none.

    Units of different kinds are not converted, nor are those that mean several
    things, as a gallon does.
    """
    for form in _FORMS:
        match = form.match(clause)
        if match is not None:
            expression = _expression(match["amounts"], match["unit"].lower())
            if expression is None:
                return None
            return Conversion(" ".join(match["amounts"].split()), match["unit"], expression)
    return None


def _expression(amounts: str, unit: str) -> str | None:
    parts = [
        (Decimal(-1 if each["sign"] else 1) * number(each["number"]), each["unit"].lower())
        for each in _PART.finditer(amounts)
    ]
    if unit in _TEMPERATURES:
        return _degrees(*parts[0], unit) if len(parts) == 1 else None
    if unit not in _UNITS or any(each not in _UNITS for _, each in parts):
        return None
    kind, factor = _UNITS[unit]
    if any(_UNITS[each][0] != kind for _, each in parts):
        return None
    terms = [_term(amount, _UNITS[each][1]) for amount, each in parts]
    total = " + ".join(terms)
    if len(terms) > 1:
        total = f"({total})"
    return total if factor == "1" else f"{total} / {_operand(factor)}"


def _term(amount: Decimal, factor: str) -> str:
    return format(amount, "f") if factor == "1" else f"{amount:f} * {_operand(factor)}"


def _operand(factor: str) -> str:
    return f"({factor})" if " " in factor else factor


def _degrees(amount: Decimal, unit: str, wanted: str) -> str | None:
    """By way of degrees Celsius."""
    written = format(amount, "f")
    if unit in _FAHRENHEIT:
        celsius = f"({written} - 32) * 5 / 9"
    elif unit in _KELVIN:
        celsius = f"{written} - 273.15"
    elif unit in _CELSIUS:
        celsius = written
    else:
        return None
    if wanted in _FAHRENHEIT:
        return f"({celsius}) * 9 / 5 + 32"
    return f"{celsius} + 273.15" if wanted in _KELVIN else celsius
