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
    only_tells,
    split_request,
)
from services.reasoning.offline.date_questions import DateQuestion, find_date_question
from services.reasoning.offline.delegations import Delegation, split_delegation
from services.reasoning.offline.lookups import Lookup, make_lookup
from services.reasoning.offline.pauses import Pause, find_pause
from services.reasoning.offline.person_questions import PersonQuestion, find_person_question
from services.reasoning.offline.times import TimeQuestion, TimeQuestions
from services.reasoning.offline.tool_arguments import Argument, ToolRequest
from services.reasoning.offline.tool_requests import find_tool_requests
from services.reasoning.offline.unit_conversions import Conversion, find_conversion
from services.reasoning.offline.word_problems import WordProblem, find_word_problem

# The built-in tools that the rules know.
CALCULATOR: Final = "calculator"
SEARCH: Final = "search_memory"
CLOCK: Final = "current_time"
# Those that make a task wait; they are rarely offered.
ASK_PERSON: Final = "ask_person"
WAIT: Final = "wait"
DELEGATE: Final = "delegate"
_WAITING: Final = frozenset([ASK_PERSON, WAIT, DELEGATE])
# Whether these are offered decides how a request is read.
_DECISIVE: Final = _WAITING | {SEARCH}
_KNOWN: Final = frozenset([CALCULATOR, SEARCH, CLOCK]) | _WAITING

_REMEMBERED: Final = 128

# What a step is about decides how its answer is worded.
Subject = (
    Calculation
    | WordProblem
    | Conversion
    | DateQuestion
    | TimeQuestion
    | Lookup
    | ToolRequest
    | PersonQuestion
    | Pause
    | Delegation
)
# What JSON can say of a call's arguments.
Value = Argument | Sequence[Mapping[str, str]]


@dataclass(frozen=True, slots=True)
class Step:
    """One thing to do."""

    subject: Subject
    # Empty where the rules answer by themselves.
    tool: str
    arguments: Mapping[str, Value]
    # Whether the tool is offered and everything that it needs is known.
    callable: bool
    # The step whose result this one goes on from, by its index.
    goes_on_from: int | None = None

    @property
    def waits(self) -> bool:
        """Whether the task waits when it is called: what follows is done afterwards."""
        return self.tool in _WAITING


@dataclass(frozen=True, slots=True)
class Part:
    """A part of a request in its words, and what it is about."""

    text: str
    subjects: tuple[Subject, ...]


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
        steps: list[Step] = []
        for part in self.parts(request, before=before, tools=tools):
            for subject in part.subjects:
                step = _step(subject, offered)
                # What is asked twice is done once, but time passes each time.
                if step not in steps or isinstance(subject, Pause):
                    steps.append(step)
        return steps

    def parts(self, request: str, *, before: str, tools: Sequence[pb.ToolSpec]) -> Sequence[Part]:
        """The parts of `request` that ask or command, in its order."""
        further = [tool for tool in tools if tool.name not in _KNOWN]
        offered = frozenset(tool.name for tool in tools if tool.name in _DECISIVE)
        request, before = request[:MOST_CHARACTERS], before[:MOST_CHARACTERS]
        if further:
            return self._read(request, before, offered, further)
        return self._read_before(request, before, offered)

    def _read(
        self,
        request: str,
        before: str,
        offered: frozenset[str],
        further: Sequence[pb.ToolSpec] = (),
    ) -> Sequence[Part]:
        """What `request` is about.

        `offered` are those of _DECISIVE that are, `further` tools those beyond the
        known ones.
        """
        delegation, after, listed = None, "", ""
        if DELEGATE in offered:
            whole = request
            request, delegation, after = split_delegation(request)
            listed = whole[len(request) : len(whole) - len(after)].strip()
        return [
            *self._in_clauses(request, before, offered, further),
            *([Part(listed, (delegation,))] if delegation is not None else []),
            *self._in_clauses(after, before, offered, further),
        ]

    def _in_clauses(
        self, text: str, before: str, offered: frozenset[str], further: Sequence[pb.ToolSpec]
    ) -> Sequence[Part]:
        clauses = split_request(text)
        tells = all(map(only_tells, clauses))
        # As a whole, unless a part of it is for one of the known tools.
        whole = further and not any(self._is_known(clause, offered, further) for clause in clauses)
        if whole and not tells:
            requests = find_tool_requests(text, further)
            if requests:
                return [Part(text, tuple(requests))]
            # What the whole does not ask for for sure, its parts do not either.
            further = ()
        problem = find_word_problem(text)
        if problem is not None:
            return [Part(text, (problem,))]
        parts: list[Part] = []
        for clause in clauses:
            subjects = self._subjects(clause, before, offered, further)
            if subjects:
                mark = "?" if clause.kind is ClauseKind.QUESTION else "."
                ended = clause.text.endswith(("?", ".", "!"))
                parts.append(
                    Part(clause.text if ended else f"{clause.text}{mark}", tuple(subjects))
                )
        return parts

    def _subjects(
        self, clause: Clause, before: str, offered: frozenset[str], further: Sequence[pb.ToolSpec]
    ) -> Sequence[Subject]:
        asked = clause.kind is not ClauseKind.STATEMENT
        if asked and further:
            requests = find_tool_requests(clause.text, further)
            if requests:
                return requests
        known = self._known(clause, offered)
        if known:
            return known
        return [make_lookup(clause.text, before=before)] if asked else []

    def _is_known(
        self, clause: Clause, offered: frozenset[str], further: Sequence[pb.ToolSpec]
    ) -> bool:
        """Whether `clause` is for a known tool, and for none beyond."""
        looks_up = SEARCH in offered and clause.kind is not ClauseKind.STATEMENT
        if not looks_up and not self._known(clause, offered):
            return False
        return not find_tool_requests(clause.text, further)

    def _known(self, clause: Clause, offered: frozenset[str]) -> Sequence[Subject]:
        """What `clause` wants of the known tools, but for a look-up."""
        if ASK_PERSON in offered and (question := find_person_question(clause.text)) is not None:
            return [question]
        if WAIT in offered and (pause := find_pause(clause.text)) is not None:
            return [pause]
        conversion = find_conversion(clause.text)
        if conversion is not None:
            return [conversion]
        dates = find_date_question(clause.text)
        if dates is not None:
            return [dates]
        asked = clause.kind is not ClauseKind.STATEMENT
        calculations = find_calculations(clause.text, asked=asked)
        if calculations:
            return calculations
        time = self._times.find(clause.text)
        return [time] if time is not None else []


def _step(subject: Subject, offered: set[str]) -> Step:
    arguments: Mapping[str, Value]
    ready = True
    match subject:
        case Calculation() | WordProblem() | Conversion():
            tool, arguments = CALCULATOR, {"expression": subject.expression}
        case DateQuestion():
            tool, arguments = (CLOCK if subject.needs_today else ""), {}
        case TimeQuestion():
            tool = CLOCK
            arguments = {"time_zone": subject.zone} if subject.zone else {}
        case Lookup():
            tool, arguments = SEARCH, {"query": subject.query, "limit": subject.limit}
        case ToolRequest():
            tool, arguments, ready = subject.tool, subject.arguments, not subject.missing
        case PersonQuestion():
            tool, arguments = ASK_PERSON, {"question": subject.question}
        case Pause():
            tool = WAIT
            arguments = {"until": subject.until} if subject.until else {"seconds": subject.seconds}
        case Delegation():
            tool, arguments = DELEGATE, {"tasks": [{"text": part} for part in subject.parts]}
    return Step(subject, tool, arguments, callable=ready and tool in offered)
