"""To what an API key may be limited: the names of the scopes in the mesh's policy."""

from collections.abc import Iterable
from typing import Final

from meshkit.errors import InvalidField, Violation

# The same as in mesh/policy.yaml, which says what each lets through.
SCOPES: Final = (
    "tasks:read",
    "tasks:write",
    "agents:read",
    "agents:write",
    "docs:read",
    "docs:write",
    "tools:read",
    "tools:write",
    "tools:call",
    "models:read",
    "models:call",
    "spend:read",
    "spend:write",
    "budgets:write",
    "status:read",
    "operate",
    "keys",
)
_ALL: Final = ":*"


def spelled_out(scopes: Iterable[str], *, field: str) -> tuple[str, ...]:
    """The scopes by their names, each once, `tasks:*` as all that begin so.

    Raises:
        InvalidField: For those that there are not.
    """
    wrong: list[Violation] = []
    found: set[str] = set()
    for index, scope in enumerate(scopes):
        matching = _matching(scope)
        if not matching:
            text = f"must be one of {', '.join(SCOPES)}, not {scope[:40]!r}"
            wrong.append(Violation(f"{field}[{index}]", text))
        found.update(matching)
    if wrong:
        raise InvalidField.many(wrong)
    return tuple(each for each in SCOPES if each in found)


def _matching(scope: str) -> list[str]:
    if scope.endswith(_ALL) and len(scope) > len(_ALL):
        return [each for each in SCOPES if each.startswith(scope[:-1])]
    return [scope] if scope in SCOPES else []
