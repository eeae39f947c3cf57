"""Regular expressions of JSON Schemas, matched in time that grows with the text alone.

Python's own matcher can take for ever over `(a+)+$`, and schemas come from callers. This
one follows all ways through the pattern at once. It knows what JSON Schema recommends to
use: no look-around, no back-references, no word boundaries.
"""

import re
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Final

_MOST_CHARACTERS: Final = 1_000
_MOST_STATES: Final = 2_000
_MOST_NESTED: Final = 50
_MOST_REMEMBERED: Final = 4_096
_COUNTED: Final = re.compile(r"\{([0-9]{1,4})(?:(,)([0-9]{1,4})?)?\}")
_GROUP: Final = re.compile(r"\((?:\?(?::|P?<[A-Za-z_][A-Za-z0-9_]*>))?")
_CLASS: Final = re.compile(r"\[\^?(?:\\.|[^\]\\])*\]", re.DOTALL)
_ESCAPE: Final = re.compile(
    r"\\(?:[dDwWsSnrtfv0]|x[0-9A-Fa-f]{2}|u[0-9A-Fa-f]{4}|[^A-Za-z0-9])", re.DOTALL
)

Spend = Callable[[int], None]
"""Told how many steps are about to be made; raises where that is too much."""


class PatternError(Exception):
    """The text is no pattern that can be matched here; says why, as the end of a sentence."""


@dataclass(frozen=True, slots=True)
class _One:
    """One character that `test` takes."""

    test: re.Pattern[str]


@dataclass(frozen=True, slots=True)
class _Edge:
    """The beginning or the end of the text."""

    is_end: bool


@dataclass(frozen=True, slots=True)
class _All:
    parts: Sequence["_Node"]


@dataclass(frozen=True, slots=True)
class _Any:
    ways: Sequence["_Node"]


@dataclass(frozen=True, slots=True)
class _Times:
    node: "_Node"
    least: int
    # None for any number.
    most: int | None


_Node = _One | _Edge | _All | _Any | _Times


class LinearPattern:
    """A pattern, compiled. Remembers the ways it went, up to a bound."""

    def __init__(self, source: str) -> None:
        """Raises PatternError."""
        if len(source) > _MOST_CHARACTERS:
            raise PatternError(f"must have at most {_MOST_CHARACTERS} characters")
        self._free: Final[list[list[int]]] = []
        self._edges: Final[list[list[tuple[bool, int]]]] = []
        self._tests: Final[list[tuple[re.Pattern[str], int] | None]] = []
        node = _Parser(source).whole()
        self._start: Final = self._state()
        self._final: Final = self._build(node, self._start)
        self._steps: Final[dict[tuple[frozenset[int], str], frozenset[int]]] = {}

    @property
    def states(self) -> int:
        """How large it is."""
        return len(self._free)

    def is_in(self, text: str, spend: Spend) -> bool:
        """Whether the pattern matches anywhere in the text."""
        spend(1 + len(text) // 16)
        at = self._reached({self._start}, begin=True, end=False)
        for character in text:
            if self._final in at:
                return True
            step = self._steps.get((at, character))
            if step is None:
                spend(1 + len(at) // 4)
                step = self._step(at, character)
            at = step
        # Once more: what is at the end may let it through.
        return self._final in self._reached(set(at), begin=not text, end=True)

    def _step(self, at: frozenset[int], character: str) -> frozenset[int]:
        reached = {self._start}
        for state in at:
            test = self._tests[state]
            if test is not None and test[0].fullmatch(character):
                reached.add(test[1])
        step = self._reached(reached, begin=False, end=False)
        if len(self._steps) >= _MOST_REMEMBERED:
            self._steps.clear()
        self._steps[at, character] = step
        return step

    def _reached(self, states: set[int], *, begin: bool, end: bool) -> frozenset[int]:
        """`states`, and those that follow without a character."""
        waiting = list(states)
        while waiting:
            state = waiting.pop()
            following = list(self._free[state])
            following += [then for is_end, then in self._edges[state] if (end if is_end else begin)]
            for each in following:
                if each not in states:
                    states.add(each)
                    waiting.append(each)
        return frozenset(states)

    def _state(self) -> int:
        if len(self._free) >= _MOST_STATES:
            raise PatternError("is too large: repeat less, or fewer times")
        self._free.append([])
        self._edges.append([])
        self._tests.append(None)
        return len(self._free) - 1

    def _build(self, node: _Node, start: int) -> int:
        """Adds `node` from `start` on; the state after it."""
        match node:
            case _One(test):
                then = self._state()
                first = self._state()
                self._free[start].append(first)
                self._tests[first] = (test, then)
                return then
            case _Edge(is_end):
                then = self._state()
                self._edges[start].append((is_end, then))
                return then
            case _All(parts):
                for part in parts:
                    start = self._build(part, start)
                return start
            case _Any(ways):
                then = self._state()
                for way in ways:
                    self._free[self._build(way, start)].append(then)
                return then
            case _Times(inner, least, most):
                return self._repeat(inner, least, most, start)

    def _repeat(self, node: _Node, least: int, most: int | None, start: int) -> int:
        for _ in range(least):
            before, start = start, self._build(node, start)
            if start == before:
                # Nothing, however often.
                return start
        then = self._state()
        self._free[start].append(then)
        if most is None:
            again = self._build(node, then)
            self._free[again].append(then)
            return then
        for _ in range(most - least):
            start = self._build(node, start)
            self._free[start].append(then)
        return then


class _Parser:
    """Reads a pattern from the left. What takes one character is left to Python's `re`."""

    def __init__(self, source: str) -> None:
        self._source: Final = source
        self._at = 0
        self._depth = 0

    def whole(self) -> _Node:
        node = self._ways()
        if self._at < len(self._source):
            raise PatternError("has a ) without a (")
        return node

    def _ways(self) -> _Node:
        ways = [self._sequence()]
        while self._next() == "|":
            self._at += 1
            ways.append(self._sequence())
        return ways[0] if len(ways) == 1 else _Any(ways)

    def _sequence(self) -> _Node:
        parts: list[_Node] = []
        while self._next() not in ("", "|", ")"):
            parts.append(self._repeated(self._atom()))
        return _All(parts)

    def _repeated(self, node: _Node) -> _Node:
        sign = self._next()
        counted = _COUNTED.match(self._source, self._at)
        if sign in ("*", "+", "?"):
            least, most = int(sign == "+"), 1 if sign == "?" else None
            self._at += 1
        elif counted is not None:
            least = int(counted[1])
            most = int(counted[3]) if counted[3] else (None if counted[2] else least)
            if most is not None and most < least:
                raise PatternError(f"repeats {counted[0]}: the first number is the larger one")
            self._at = counted.end()
        else:
            return node
        if self._next() == "?":
            # Which of the ways it prefers does not matter: what counts is whether there is one.
            self._at += 1
        if self._next() in ("*", "+"):
            raise PatternError("repeats a repetition")
        return _Times(node, least, most)

    def _atom(self) -> _Node:
        match self._next():
            case "(":
                return self._group()
            case "^" | "$" as sign:
                self._at += 1
                return _Edge(is_end=sign == "$")
            case "*" | "+" | "?":
                raise PatternError("repeats nothing")
            case ".":
                self._at += 1
                return _One(re.compile("."))
            case "[":
                return self._single(_CLASS, "has a [ that nothing closes")
            case "\\":
                return self._single(
                    _ESCAPE,
                    f"uses {self._source[self._at : self._at + 2]}, which is not known here",
                )
            case character:
                self._at += 1
                return _One(re.compile(re.escape(character)))

    def _single(self, shape: re.Pattern[str], otherwise: str) -> _Node:
        found = shape.match(self._source, self._at)
        if found is None:
            raise PatternError(otherwise)
        self._at = found.end()
        try:
            return _One(re.compile(found[0], re.ASCII))
        except re.error as error:
            raise PatternError(f"has the part {found[0][:40]}, which is wrong: {error}") from None

    def _group(self) -> _Node:
        opened = _GROUP.match(self._source, self._at)
        assert opened is not None, "asked for where there is a ("
        self._at = opened.end()
        if self._next() == "?":
            raise PatternError("uses (?, which is not known here but for (?: and (?<name>")
        self._depth += 1
        if self._depth > _MOST_NESTED:
            raise PatternError(f"must be nested at most {_MOST_NESTED} deep")
        node = self._ways()
        if self._next() != ")":
            raise PatternError("has a ( that nothing closes")
        self._depth -= 1
        self._at += 1
        return node

    def _next(self) -> str:
        return self._source[self._at : self._at + 1]
