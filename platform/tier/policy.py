"""Who may call what: mesh/policy.yaml, read and held against the contracts."""

from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final, TypeVar

import yaml

from meshkit.identity import Role
from tier.failures import BadConfig

SHIPPED: Final = Path("mesh/policy.yaml")
# Those that a caller from outside can have; each may do what those before it may.
ROLES: Final = (Role.USER, Role.OPERATOR, Role.ADMIN)
_SECTIONS: Final = ("calls", "roles", "scopes")

T = TypeVar("T")


class BadPolicy(BadConfig):
    """The policy is wrong; the text says in which line and field."""


@dataclass(frozen=True, slots=True)
class Contracts:
    """What there is to be called."""

    # Methods by the full name of their service: all that the gateway offers.
    services: Mapping[str, tuple[str, ...]]
    # Services by the part of the mesh that serves them.
    parts: Mapping[str, tuple[str, ...]]


@dataclass(frozen=True, slots=True)
class Edge:
    """What one service may call of another."""

    caller: str
    callee: str
    # Such as `/agentmesh.memory.v1.MemoryService/Search`, as everywhere here.
    paths: tuple[str, ...]


@dataclass(frozen=True, slots=True)
class Policy:
    """Who may call what."""

    edges: tuple[Edge, ...]
    # The paths that a role has beyond those of the roles before it.
    roles: Mapping[Role, tuple[str, ...]]
    # The paths that a scope of an API key lets through.
    scopes: Mapping[str, tuple[str, ...]]

    def role_of(self, path: str) -> Role:
        """The lowest role that may call `path`; KeyError for one that nobody offers."""
        return _holder(self.roles, path)

    def scope_of(self, path: str) -> str:
        """The scope that lets `path` through; KeyError for one that nobody offers."""
        return _holder(self.scopes, path)

    def paths(self) -> tuple[str, ...]:
        """All that callers from outside may call in one role or another, in the file's order."""
        return tuple(path for paths in self.roles.values() for path in paths)


def roles_from(lowest: Role) -> tuple[Role, ...]:
    """`lowest` and the roles above it."""
    return ROLES[ROLES.index(lowest) :]


def roles_up_to(highest: Role) -> tuple[Role, ...]:
    """`highest` and the roles below it."""
    return ROLES[: ROLES.index(highest) + 1]


def load(text: str, contracts: Contracts, *, name: str = str(SHIPPED)) -> Policy:
    """Reads a policy; `name` is what errors call the file.

    Raises BadPolicy for what is no policy, for names that no contract has, and where an RPC
    that the gateway offers is missing, or stands twice, among the roles or the scopes.
    """
    return _Reader(name, contracts).policy(text)


def read(file: Path, contracts: Contracts) -> Policy:
    """The policy in `file`. Raises BadPolicy as `load` does, and where it cannot be read."""
    try:
        text = file.read_text("utf-8")
    except (OSError, UnicodeDecodeError) as error:
        why = (
            f"cannot be read: {error.strerror}"
            if isinstance(error, OSError)
            else f"is not UTF-8 text: invalid byte at offset {error.start}"
        )
        raise BadPolicy(f"{file}: {why}. A policy is a file such as {SHIPPED}.") from error
    return load(text, contracts, name=str(file))


def _holder(placed: Mapping[T, tuple[str, ...]], path: str) -> T:
    for key, paths in placed.items():
        if path in paths:
            return key
    raise KeyError(path)


class _Reader:
    """Reads one file; knows the line of everything."""

    def __init__(self, name: str, contracts: Contracts) -> None:
        self._name: Final = name
        self._contracts: Final = contracts

    def policy(self, text: str) -> Policy:
        try:
            root = yaml.compose(text, Loader=yaml.CSafeLoader)
        except yaml.MarkedYAMLError as error:
            line = error.problem_mark.line + 1 if error.problem_mark else 1
            raise BadPolicy(f"{self._name}:{line}: is no YAML: {error.problem}") from error
        except yaml.YAMLError as error:
            why = str(error).partition("\n")[0]
            raise BadPolicy(f"{self._name}: is no YAML: {why}") from error
        if root is None:
            raise BadPolicy(f"{self._name}:1: is empty; it must have {', '.join(_SECTIONS)}.")
        sections = dict(self._entries(root, "", _one_of(_SECTIONS)))
        for each in _SECTIONS:
            if each not in sections:
                raise self._bad(root, each, "is missing")
        roles = self._placed(sections["roles"], "roles", _one_of([each.value for each in ROLES]))
        return Policy(
            edges=tuple(self._edges(sections["calls"])),
            roles={role: roles.get(role.value, ()) for role in ROLES},
            scopes=self._placed(sections["scopes"], "scopes", _scope),
        )

    def _edges(self, node: yaml.Node) -> Iterator[Edge]:
        parts = self._contracts.parts
        for caller, called in self._entries(node, "calls", _one_of(list(parts))):
            for callee, rpcs in self._entries(called, f"calls.{caller}", _one_of(list(parts))):
                field = f"calls.{caller}.{callee}"
                if callee == caller:
                    raise self._bad(rpcs, field, "a service does not call itself")
                paths = tuple(path for path, _ in self._rpcs(rpcs, field, parts[callee]))
                yield Edge(caller, callee, paths)

    def _placed(
        self, node: yaml.Node, section: str, check: Callable[[str], str]
    ) -> dict[str, tuple[str, ...]]:
        """Paths by role or scope: each RPC once, and none left out."""
        lines: dict[str, tuple[int, str]] = {}
        found: dict[str, tuple[str, ...]] = {}
        for key, rpcs in self._entries(node, section, check):
            field = f"{section}.{key}"
            paths: list[str] = []
            for path, at in self._rpcs(rpcs, field, tuple(self._contracts.services)):
                if path in lines:
                    line, other = lines[path]
                    raise self._bad(
                        at, field, f"{path[1:]} stands in {other} already (line {line})"
                    )
                lines[path] = at.start_mark.line + 1, field
                paths.append(path)
            found[key] = tuple(paths)
        for service, methods in self._contracts.services.items():
            for method in methods:
                if f"/{service}/{method}" not in lines:
                    raise self._bad(
                        node, section, f"{service}/{method} is missing: say in whose list it is"
                    )
        return found

    def _rpcs(
        self, node: yaml.Node, field: str, services: tuple[str, ...]
    ) -> Iterator[tuple[str, yaml.Node]]:
        """The path of each RPC, and where it stands."""
        for service, methods in self._entries(node, field, _one_of(services)):
            if not isinstance(methods, yaml.SequenceNode) or not methods.value:
                raise self._bad(methods, f"{field}.{service}", "must be a list of RPCs")
            seen: set[str] = set()
            for each in methods.value:
                method = self._word(each, f"{field}.{service}")
                if method not in self._contracts.services[service]:
                    raise self._bad(each, f"{field}.{service}", f"{service} has no RPC {method!r}")
                if method in seen:
                    raise self._bad(each, f"{field}.{service}", f"{method} stands there twice")
                seen.add(method)
                yield f"/{service}/{method}", each

    def _entries(
        self, node: yaml.Node, field: str, check: Callable[[str], str]
    ) -> Iterator[tuple[str, yaml.Node]]:
        """Keys and values of a mapping. `check` says what is wrong with a key; "" for nothing."""
        if not isinstance(node, yaml.MappingNode):
            raise self._bad(node, field, "must be a mapping")
        seen: set[str] = set()
        for key, value in node.value:
            word = self._word(key, field)
            if wrong := check(word):
                raise self._bad(key, field, f"{word!r} is unknown: {wrong}")
            if word in seen:
                raise self._bad(key, field, f"{word!r} stands there twice")
            seen.add(word)
            yield word, value

    def _word(self, node: yaml.Node, field: str) -> str:
        if not isinstance(node, yaml.ScalarNode):
            raise self._bad(node, field, "must be a name")
        return str(node.value)

    def _bad(self, node: yaml.Node, field: str, wrong: str) -> BadPolicy:
        at = f"{field}: " if field else ""
        return BadPolicy(f"{self._name}:{node.start_mark.line + 1}: {at}{wrong}.")


def _one_of(known: tuple[str, ...] | list[str]) -> Callable[[str], str]:
    return lambda word: "" if word in known else f"it must be one of {', '.join(known)}"


def _scope(word: str) -> str:
    # They travel in a header, with a space between any two.
    allowed = word.replace(":", "").replace("-", "")
    if allowed.isascii() and allowed.isalnum() and allowed.islower():
        return ""
    return "a scope is of lower-case letters, digits, `:` and `-`"
