"""Reads dates as people write them."""

import re
from dataclasses import dataclass
from datetime import date
from typing import Final

_MONTH_NAMES: Final = (
    "january", "february", "march", "april", "may", "june", "july", "august", "september",
    "october", "november", "december",
)  # fmt: skip
_MONTHS: Final = {
    **{name: number for number, name in enumerate(_MONTH_NAMES, start=1)},
    **{name[:3]: number for number, name in enumerate(_MONTH_NAMES, start=1)},
    "sept": 9,
}
_MONTH: Final = rf"(?:{'|'.join(sorted(_MONTHS, key=len, reverse=True))})\b\.?"
_DAY: Final = r"\d{1,2}(?:st|nd|rd|th)?"
_YEAR: Final = r"\d{4}(?!\d)"
# A part of a pattern, to be matched whatever the case.
DATE: Final = (
    r"(?<![\w.-])(?:"
    r"\d{4}-\d{1,2}-\d{1,2}(?![\d-])"
    rf"|{_DAY}(?:\s+of)?\s+{_MONTH}(?:,?\s+{_YEAR})?"
    rf"|{_MONTH}\s+{_DAY}\b(?:,?\s+{_YEAR})?"
    r"|\d{1,2}[./]\d{1,2}[./]\d{4}(?!\d)"
    r")"
)
_ISO: Final = re.compile(r"(?P<year>\d{4})-(?P<month>\d{1,2})-(?P<day>\d{1,2})$")
_NAMED: Final = re.compile(
    rf"(?:(?P<day>\d{{1,2}})\w*(?:\s+of)?\s+(?P<month>{_MONTH})"
    rf"|(?P<month_first>{_MONTH})\s+(?P<day_after>\d{{1,2}})\w*)(?:,?\s+(?P<year>\d{{4}}))?$",
    re.IGNORECASE,
)
_DOTTED: Final = re.compile(
    r"(?P<first>\d{1,2})(?P<mark>[./])(?P<second>\d{1,2})[./](?P<year>\d{4})$"
)


@dataclass(frozen=True, slots=True)
class NamedDate:
    """A date, perhaps without its year."""

    month: int
    day: int
    # None where it is not said.
    year: int | None

    def within(self, year: int) -> date | None:
        """The date, in `year` where it does not say its own; None where there is no such day."""
        try:
            return date(self.year or year, self.month, self.day)
        except ValueError:
            return None


def read_date(text: str) -> NamedDate | None:
    """The date that `text`, which DATE matched, names; None where it can be read in two ways.

    3/4/2024 is in March or in April, by who writes it; 13/4/2024 is in April, and
    3.4.2024, with dots, too.
    """
    text = text.strip()
    iso = _ISO.match(text)
    if iso is not None:
        return NamedDate(int(iso["month"]), int(iso["day"]), int(iso["year"]))
    named = _NAMED.match(text)
    if named is not None:
        month = (named["month"] or named["month_first"]).lower().rstrip(".")
        year = named["year"]
        day = named["day"] or named["day_after"]
        return NamedDate(_MONTHS[month], int(day), int(year) if year else None)
    dotted = _DOTTED.match(text)
    if dotted is None:
        return None
    first, second, year = int(dotted["first"]), int(dotted["second"]), int(dotted["year"])
    if dotted["mark"] == "." or first > 12 or first == second:
        return NamedDate(second, first, year)
    return NamedDate(first, second, year) if second > 12 else None
