"""Recognises questions for the time or the date, and the time zone that they mean."""

import re
from collections.abc import Callable, Collection
from dataclasses import dataclass
from typing import Final

_ENDS: Final = r"(?=\s*(?:[?.!,]|$|\b(?:in|at|now|right|there|today|please|currently|for)\b))"
_TIME_QUESTION: Final = re.compile(
    rf"""
    \b(?:
      what\s+time\s+is\s+it | what\s+time\s+it\s+is | time\s+is\s+it
      | (?:the|current|local|exact)\s+time{_ENDS}
      | date\s+and\s+time{_ENDS} | time\s+and\s+date{_ENDS}
      | today(?:'s|’s|s)\s+date | (?:the|current|which|what)\s+date(?:\s+is\s+it)?{_ENDS}
      | (?:what|which)\s+day(?:\s+of\s+the\s+week)?\s+is\s+(?:it|today)
      | what(?:\s+is|'s|’s)\s+today | time\s+now | ^time\s+in
    )
    """,
    re.IGNORECASE | re.VERBOSE,
)
_ZONE_NAME: Final = re.compile(r"\b(?:[A-Z][A-Za-z]+(?:/[A-Z][A-Za-z_+-]+){1,2}|UTC|GMT)\b")
_PLACE: Final = re.compile(
    r"\b(?:in|at|for)\s+(?:the\s+)?(?P<place>[^\W\d_][^?.!,;]*?)"
    r"(?:\s+(?:right now|now|today|currently|at the moment|please))*\s*(?:[?.!,;]|$)",
    re.IGNORECASE,
)
_NO_PLACE: Final = frozenset(["moment", "here"])
# Places that people name and the time zone database does not.
_FURTHER_PLACES: Final = {
    "beijing": "Asia/Shanghai",
    "bangalore": "Asia/Kolkata",
    "boston": "America/New_York",
    "california": "America/Los_Angeles",
    "china": "Asia/Shanghai",
    "delhi": "Asia/Kolkata",
    "england": "Europe/London",
    "france": "Europe/Paris",
    "frankfurt": "Europe/Berlin",
    "germany": "Europe/Berlin",
    "hamburg": "Europe/Berlin",
    "india": "Asia/Kolkata",
    "italy": "Europe/Rome",
    "miami": "America/New_York",
    "mumbai": "Asia/Kolkata",
    "munich": "Europe/Berlin",
    "osaka": "Asia/Tokyo",
    "san francisco": "America/Los_Angeles",
    "seattle": "America/Los_Angeles",
    "spain": "Europe/Madrid",
    "uk": "Europe/London",
    "washington": "America/New_York",
}


@dataclass(frozen=True, slots=True)
class TimeQuestion:
    """A question for the present time."""

    # As the clause says it; empty where it names none.
    place: str
    # IANA name; None where the place is unknown or none is named.
    zone: str | None


class TimeQuestions:
    """Finds the questions; knows the time zones by the cities in their names."""

    def __init__(self, zones: Callable[[], Collection[str]]) -> None:
        """`zones` answers all IANA names; it is asked once, with the first question."""
        self._zones = zones
        self._by_place: dict[str, str] | None = None

    def find(self, clause: str) -> TimeQuestion | None:
        """The question for the time that `clause` asks; None where it asks none."""
        if _TIME_QUESTION.search(clause) is None:
            return None
        named = _ZONE_NAME.search(clause)
        if named is not None and (zone := self._zone(named[0])) is not None:
            return TimeQuestion(named[0], zone)
        match = _PLACE.search(clause)
        if match is None or match["place"].lower() in _NO_PLACE:
            return TimeQuestion("", None)
        return TimeQuestion(match["place"], self._zone(match["place"]))

    def _zone(self, place: str) -> str | None:
        if self._by_place is None:
            self._by_place = _places(self._zones())
        return self._by_place.get(place.lower())


def _places(zones: Collection[str]) -> dict[str, str]:
    places: dict[str, str] = {}
    # Regions first, so that "Asia/Singapore" wins over the old "Singapore".
    for zone in sorted(zones, key=lambda name: ("/" not in name, name)):
        places.setdefault(zone.rpartition("/")[2].replace("_", " ").lower(), zone)
        places[zone.lower()] = zone
    return {**_FURTHER_PLACES, **places}
