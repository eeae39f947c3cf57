"""Reads what a model answered in a phase whose answer is JSON; None where it cannot be used.

Reasoning has checked the shape already, if the model has structured output. What is read
here is what the log keeps, perhaps of a model that has not.
"""

import json
from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, cast

from google.protobuf import struct_pb2
from google.protobuf.json_format import ParseDict, ParseError


@dataclass(frozen=True, slots=True)
class Critique:
    """What is wrong with a draft; nothing where there are no problems."""

    problems: Sequence[str]


@dataclass(frozen=True, slots=True)
class Assignment:
    """A part of the work and who is to do it."""

    worker: str
    text: str


@dataclass(frozen=True, slots=True)
class Verdict:
    """Whether a part's result will do."""

    accepted: bool
    reason: str


def steps(text: str) -> Sequence[str] | None:
    """The steps of a plan, each on one line."""
    return _texts(_object(text).get("steps"))


def critique(text: str) -> Critique | None:
    """What a critic said. One who names no problem accepts the draft."""
    answer = _object(text)
    problems = _texts(answer.get("problems", []))
    if not isinstance(answer.get("acceptable"), bool) or problems is None:
        return None
    return Critique(() if answer["acceptable"] else problems)


def assignments(text: str, workers: Collection[str]) -> Sequence[Assignment] | None:
    """The parts of a delegation; None if one goes to nobody of `workers`."""
    listed = _objects(_object(text).get("parts"))
    if listed is None:
        return None
    found: list[Assignment] = []
    for part in listed:
        worker, what = part.get("worker"), part.get("text")
        if worker not in workers or not isinstance(what, str):
            return None
        if what.strip():
            found.append(Assignment(str(worker), what.strip()))
    return found


def verdicts(text: str) -> Mapping[int, Verdict] | None:
    """The verdicts of a review, by the number of the part."""
    listed = _objects(_object(text).get("verdicts"))
    if listed is None:
        return None
    found: dict[int, Verdict] = {}
    for each in listed:
        part, accepted, reason = each.get("part"), each.get("accepted"), each.get("reason", "")
        if isinstance(part, float) and part.is_integer():
            part = int(part)
        if not isinstance(part, int) or not isinstance(accepted, bool):
            return None
        found[part] = Verdict(accepted, _line(str(reason)))
    return found


def data(text: str) -> struct_pb2.Struct | None:
    """An answer as data."""
    answer = _object(text)
    if not answer:
        return None
    struct = struct_pb2.Struct()
    try:
        ParseDict(dict(answer), struct)
    except ParseError:
        return None
    return struct


def _object(text: str) -> Mapping[str, Any]:
    """The JSON object in `text`, whatever stands around it; empty where there is none."""
    begin, end = text.find("{"), text.rfind("}")
    try:
        value: Any = json.loads(text[begin : end + 1])
    except (ValueError, RecursionError):
        return {}
    return cast(Mapping[str, Any], value) if isinstance(value, dict) else {}


def _objects(value: Any) -> Sequence[Mapping[str, Any]] | None:
    if not isinstance(value, list):
        return None
    items = cast(list[Any], value)
    return items if all(isinstance(each, dict) for each in items) else None


def _texts(value: Any) -> Sequence[str] | None:
    if not isinstance(value, list):
        return None
    items = cast(list[Any], value)
    if not all(isinstance(each, str) for each in items):
        return None
    return [line for each in items if (line := _line(each))]


def _line(text: str) -> str:
    return " ".join(text.split())
