"""Recognises questions about dates and durations, and computes their answers."""

import re
from calendar import monthrange
from dataclasses import dataclass
from datetime import MAXYEAR, MINYEAR, date, timedelta
from enum import Enum
from typing import Final

from services.reasoning.offline.dates import DATE, NamedDate, read_date
from services.reasoning.offline.small_numbers import NUMBER, number

_TODAY: Final = "today"
_RELATIVE: Final = {"today": 0, "now": 0, "tomorrow": 1, "yesterday": -1}
_HOLIDAYS: Final = {
    "christmas eve": NamedDate(12, 24, None),
    "christmas day": NamedDate(12, 25, None),
    "christmas": NamedDate(12, 25, None),
    "new year's eve": NamedDate(12, 31, None),
    "new year's day": NamedDate(1, 1, None),
    "new year": NamedDate(1, 1, None),
    "halloween": NamedDate(10, 31, None),
    "valentine's day": NamedDate(2, 14, None),
}
_DAY: Final = rf"(?:{DATE}|(?:{'|'.join([*_RELATIVE, *_HOLIDAYS])})\b)"
_UNIT: Final = r"(?:days?|weeks?|fortnights?|months?|years?)"
_SPAN: Final = rf"{NUMBER}\s+{_UNIT}\b"
_END: Final = r"\s*(?:please|exactly)?\s*[?.!]*\s*$"
_WHEN: Final = (
    r"(?:(?:what|which)\s+(?:is|was|will\s+be|date\s+(?:is|was|will\s+be|falls)|day\s+(?:is|was|will\s+be)"
    r"|(?:is|will\s+be)\s+the\s+date)|what's|when\s+(?:is|was|will\s+be)|what\s+(?:date|day)\s+is\s+it"
    r"|what\s+will\s+the\s+date\s+be|what\s+(?:date|day)\s+will\s+it\s+be|calculate|tell\s+me)"
)
_BETWEEN: Final = re.compile(
    rf"^(?:how\s+many\s+(?P<unit>days|weeks|months|years)\s+(?:are\s+there\s+|are\s+|is\s+it\s+|lie\s+)?"
    r"|(?:how\s+long|how\s+much\s+time)\s+is\s+(?:it|there)\s+)"
    rf"(?:between|from)\s+(?P<first>{_DAY})\s+(?:and|to|until|till)\s+(?P<second>{_DAY}){_END}",
    re.IGNORECASE,
)
_UNTIL: Final = re.compile(
    r"^(?:how\s+many\s+(?P<unit>days|weeks|months|years)"
    r"(?:\s+(?:are\s+there|are\s+left|are\s+we|is\s+it|left|remain|to\s+go|away))?"
    r"|how\s+(?:long|much\s+time)(?:\s+is\s+(?:it|there)|\s+is\s+left)?)\s+"
    rf"(?P<way>until|till|to|before|since|from)\s+(?P<day>{_DAY}){_END}",
    re.IGNORECASE,
)
_AFTER: Final = re.compile(
    rf"^(?:{_WHEN}\s+)?(?:the\s+date\s+)?(?P<span>{_SPAN})\s+(?P<way>after|before|from|since|ago)"
    rf"(?:\s+(?P<day>{_DAY}))?{_END}",
    re.IGNORECASE,
)
_IN: Final = re.compile(
    rf"^{_WHEN}\s+(?:the\s+date\s+|it\s+)?in\s+(?P<span>{_SPAN})(?:\s+from\s+(?:now|today))?{_END}",
    re.IGNORECASE,
)
_ADDED: Final = re.compile(
    rf"^(?:add\s+)?(?P<span>{_SPAN})\s+(?P<way>to)\s+(?P<day>{_DAY}){_END}"
    rf"|^(?:what\s+is\s+)?(?P<day_first>{DATE})\s+(?P<sign>plus|minus|\+|-)\s+(?P<added>{_SPAN}){_END}",
    re.IGNORECASE,
)
_WEEKDAY: Final = re.compile(
    r"^(?:on\s+)?(?:what|which)\s+(?:day\s+of\s+the\s+week|weekday|day)\s+(?P<verb>is|was|will\s+be|does|did)\s+"
    rf"(?P<day>{_DAY})(?:\s+(?:fall|falls|fell)(?:\s+on)?|\s+on)?{_END}",
    re.IGNORECASE,
)
_DATE_OF: Final = re.compile(
    rf"^(?:{_WHEN}\s+)?(?P<day>tomorrow|yesterday)(?:'s|’s)\s+(?:date|weekday){_END}", re.IGNORECASE
)
_PARTS: Final = re.compile(rf"(?P<number>{NUMBER})\s+(?P<unit>{_UNIT})", re.IGNORECASE)
_DAYS_OF: Final = {"day": 1, "week": 7, "fortnight": 14}


class _Kind(Enum):
    BETWEEN = "between"
    SHIFTED = "shifted"
    WEEKDAY = "weekday"


@dataclass(frozen=True, slots=True)
class DateQuestion:
    """A question about dates."""

    question: str
    kind: _Kind
    # As they were written.
    first: str
    second: str = ""
    # What a difference is wanted in: days, weeks, months, years; empty for days.
    unit: str = ""
    # How far a date is moved; negative for the past.
    count: int = 0
    span_unit: str = ""
    # Whether it can only be answered by who knows what day it is.
    needs_today: bool = False


def find_date_question(clause: str) -> DateQuestion | None:
    """The question about dates that `clause` is; None where it is none."""
    text = " ".join(clause.replace("’", "'").split())
    question = _found(text)
    if question is None:
        return None
    days = [each for each in (question.first, question.second) if each]
    read = [_read(each) for each in days]
    if any(each is None for each in read):
        return None
    return question


def _found(text: str) -> DateQuestion | None:
    match = _BETWEEN.match(text)
    if match is not None:
        return _difference(text, match["first"], match["second"], match["unit"] or "")
    match = _UNTIL.match(text)
    if match is not None:
        past = match["way"].lower() in ("since", "from")
        ends = (match["day"], _TODAY) if past else (_TODAY, match["day"])
        return _difference(text, *ends, match["unit"] or "")
    match = _AFTER.match(text)
    if match is not None:
        way = match["way"].lower()
        if (way == "ago") == bool(match["day"]):
            return None
        past = way in ("before", "ago")
        return _shifted(text, match["day"] or _TODAY, match["span"], -1 if past else 1)
    match = _IN.match(text)
    if match is not None:
        return _shifted(text, _TODAY, match["span"], 1)
    match = _ADDED.match(text)
    if match is not None:
        if match["day"]:
            return _shifted(text, match["day"], match["span"], 1)
        past = match["sign"].lower() in ("minus", "-")
        return _shifted(text, match["day_first"], match["added"], -1 if past else 1)
    match = _WEEKDAY.match(text) or _DATE_OF.match(text)
    if match is not None:
        return DateQuestion(
            text, _Kind.WEEKDAY, match["day"], needs_today=_needs_today(match["day"])
        )
    return None


def _difference(text: str, first: str, second: str, unit: str) -> DateQuestion:
    needs = _needs_today(first) or _needs_today(second)
    return DateQuestion(text, _Kind.BETWEEN, first, second, unit.lower(), needs_today=needs)


def _shifted(text: str, day: str, span: str, sign: int) -> DateQuestion | None:
    part = _PARTS.match(span)
    if part is None:
        return None
    count = number(part["number"])
    if count != int(count) or count > 1_000_000:
        return None
    unit = part["unit"].lower().rstrip("s")
    return DateQuestion(
        text, _Kind.SHIFTED, day, count=sign * int(count), span_unit=unit,
        needs_today=_needs_today(day),
    )  # fmt: skip


def _read(day: str) -> NamedDate | int | None:
    """A date, or so many days from today."""
    spoken = day.lower()
    if spoken in _RELATIVE:
        return _RELATIVE[spoken]
    return _HOLIDAYS.get(spoken) or read_date(day)


def _needs_today(day: str) -> bool:
    read = _read(day)
    return not isinstance(read, NamedDate) or read.year is None


def answer_date_question(question: DateQuestion, today: date | None) -> str | None:
    """The answer in a sentence; None where there is no such date.

    `today` may be None where the question does not need it.
    """
    first = _resolved(question.first, today, question)
    if first is None:
        return None
    match question.kind:
        case _Kind.WEEKDAY:
            return f"{_written(first)} is a {first:%A}."
        case _Kind.SHIFTED:
            moved = _moved(first, question.count, question.span_unit)
            if moved is None:
                return None
            way = "after" if question.count >= 0 else "before"
            count = abs(question.count)
            unit = question.span_unit if count == 1 else f"{question.span_unit}s"
            return f"{count:,} {unit} {way} {_written(first)} is {moved:%A}, {_written(moved)}."
        case _Kind.BETWEEN:
            second = _resolved(question.second, today, question)
            if second is None:
                return None
            length = _length(first, second, question.unit)
            return f"From {_written(first)} to {_written(second)} it is {length}."


def _resolved(day: str, today: date | None, question: DateQuestion) -> date | None:
    read = _read(day)
    if isinstance(read, int):
        return today + timedelta(days=read) if today is not None else None
    if read is None:
        return None
    if read.year is not None:
        return read.within(read.year)
    if today is None:
        return None
    this_year = read.within(today.year)
    if question.kind is not _Kind.BETWEEN or this_year is None:
        return this_year
    # "Until 3 March" means the next one, "since 3 March" the last.
    if question.first == _TODAY and this_year < today:
        return read.within(today.year + 1)
    if question.second == _TODAY and this_year > today:
        return read.within(today.year - 1)
    return this_year


def _moved(day: date, count: int, unit: str) -> date | None:
    try:
        if unit in _DAYS_OF:
            return day + timedelta(days=count * _DAYS_OF[unit])
        months = day.month - 1 + count * (12 if unit == "year" else 1)
        year, month = day.year + months // 12, months % 12 + 1
        if not MINYEAR <= year <= MAXYEAR:
            return None
        # A month after 31 January is the last day of February.
        return date(year, month, min(day.day, monthrange(year, month)[1]))
    except OverflowError:
        return None


def _length(first: date, second: date, unit: str) -> str:
    days = (second - first).days
    told = _counted(days, "day")
    if unit == "weeks":
        whole, rest = divmod(abs(days), 7)
        weeks = _counted(whole if days >= 0 else -whole, "week")
        return f"{weeks} and {_counted(rest, 'day')} ({told})" if rest else f"{weeks} ({told})"
    if unit in ("months", "years"):
        early, late = min(first, second), max(first, second)
        months = (late.year - early.year) * 12 + late.month - early.month
        # Counted back where the day of the month is not reached.
        if (
            _moved(early, months, "month") is None
            or (_moved(early, months, "month") or late) > late
        ):
            months -= 1
        count, name = (months // 12, "year") if unit == "years" else (months, "month")
        begun = _moved(early, months // 12 * 12 if unit == "years" else months, "month")
        rest = (late - begun).days if begun is not None else 0
        sign = -1 if days < 0 else 1
        whole = _counted(sign * count, name)
        return f"{whole} and {_counted(rest, 'day')} ({told})" if rest else f"{whole} ({told})"
    return told


def _counted(count: int, unit: str) -> str:
    return f"{count:,} {unit}" if abs(count) == 1 else f"{count:,} {unit}s"


def _written(day: date) -> str:
    return day.isoformat()
