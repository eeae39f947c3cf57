"""Decides by rules what is to be done for a request, and with which tools."""

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from functools import lru_cache
from typing import Final

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from services.reasoning.offline.arithmetic import Calculation, find_calculations
from services.reasoning.offline.clauses import (
    MOST_CHARACTERS,
    Clause,
    ClauseKind,
    split_request,
)
from services.reasoning.offline.lookups import Lookup, make_lookup
from services.reasoning.offline.times import TimeQuestion, TimeQuestions
from services.reasoning.offline.tool_arguments import Argument, ToolRequest, find_tool_request

# The built-in tools that the rules know.
CALCULATOR: Final = "calculator"
SEARCH: Final = "search_memory"
CLOCK: Final = "current_time"
_KNOWN: Final = frozenset([CALCULATOR, SEARCH, CLOCK])

_REMEMBERED: Final = 128

# What a step is about decides how its answer is worded.
Subject = Calculation | TimeQuestion | Lookup | ToolRequest


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    subject: Subject
    tool: str
    arguments: Mapping[str, Argument]
    # Whether the tool is offered and everything that it needs is known.
    callable: bool


class Planner:
    """Makes the same plan for the same request, always."""

    def __init__(self, times: TimeQuestions) -> None:
        self._times = times
        # A request is read again when its tools have answered.
        self._read_before = lru_cache(_REMEMBERED)(self._read)

    def plan(self, request: str, *, before: str, tools: Sequence[pb.ToolSpec]) -> list[Step]:
        """The steps for `request`, in its order.

        `before` is what the same person asked last, which a short question may
        go on from. Empty where the request neither asks nor commands.
        """
        offered = {tool.name for tool in tools}
        further = [tool for tool in tools if tool.name not in _KNOWN]
        request, before = request[:MOST_CHARACTERS], before[:MOST_CHARACTERS]
        if further:
            subjects = self._read(request, before, further)
        else:
            subjects = self._read_before(request, before)
        steps: list[Step] = []
        for subject in subjects:
            step = _step(subject, offered)
            if step not in steps:
                steps.append(step)
        return steps

    def _read(
        self, request: str, before: str, further: Sequence[pb.ToolSpec] = ()
    ) -> Sequence[Subject]:
        """What `request` is about; `further` are the tools beyond the known ones."""
        return [
            subject
            for clause in split_request(request)
            for subject in self._subjects(clause, before, further)
        ]

    def _subjects(
        self, clause: Clause, before: str, further: Sequence[pb.ToolSpec]
    ) -> Sequence[Subject]:
        asked = clause.kind is not ClauseKind.STATEMENT
        if asked and further:
            request = find_tool_request(clause.text, further)
            if request is not None:
                return [request]
        calculations = find_calculations(clause.text, asked=asked)
        if calculations:
            return calculations
        time = self._times.find(clause.text)
        if time is not None:
            return [time]
        return [make_lookup(clause.text, before=before)] if asked else []


def _step(subject: Subject, offered: set[str]) -> Step:
    arguments: Mapping[str, Argument]
    ready = True
    match subject:
        case Calculation():
            tool, arguments = CALCULATOR, {"expression": subject.expression}
        case TimeQuestion():
            tool = CLOCK
            arguments = {"time_zone": subject.zone} if subject.zone else {}
        case Lookup():
            tool, arguments = SEARCH, {"query": subject.query, "limit": subject.limit}
        case ToolRequest():
            tool, arguments, ready = subject.tool, subject.arguments, not subject.missing
    return Step(subject, tool, arguments, callable=ready and tool in offered)
