"""Resource names: what they look like, how they are read and written.

Every variable part has the same shape wherever it appears, so that each also
fits into a NATS subject and a Redis key: no dot, no blank, no wildcard.
"""

import re
from collections.abc import Mapping
from typing import Final

from meshkit.error_reasons import InvalidField

_VARIABLE: Final = re.compile(r"\{(\w+)\}")
_SHORT: Final = (
    re.compile(r"[a-z0-9][a-z0-9-]{0,62}"),
    "1 to 63 lower-case letters, digits or hyphens, no hyphen first",
)
_LONG: Final = (
    re.compile(r"[A-Za-z0-9][A-Za-z0-9_~:-]{0,127}"),
    "1 to 128 letters, digits or any of _ ~ : -, a letter or digit first",
)
_SHAPES: Final[Mapping[str, tuple[re.Pattern[str], str]]] = {
    "tenant": _SHORT,
    "task": _SHORT,
    "agent": _SHORT,
    "version": (re.compile(r"[1-9][0-9]{0,8}"), "a number from 1"),
    "schedule": _SHORT,
    "api_key": (re.compile(r"[a-z0-9]{8,40}"), "8 to 40 lower-case letters or digits"),
    "tool": (
        re.compile(r"[a-z0-9][a-z0-9_-]{0,62}"),
        "1 to 63 lower-case letters, digits, _ or -",
    ),
}


def _shape(variable: str) -> tuple[re.Pattern[str], str]:
    return _SHAPES.get(variable, _LONG)


def _cut(text: str) -> str:
    return text if len(text) <= 80 else text[:77] + "..."


class Pattern:
    """The shape of the names of one kind of resource, such as `tenants/{tenant}/tasks/{task}`."""

    def __init__(self, template: str) -> None:
        self.template: Final = template
        self.variables: Final = tuple(_VARIABLE.findall(template))
        parts = _VARIABLE.split(template)  # literal, variable, literal, ...
        self._regex = re.compile(
            "".join(
                f"({_shape(part)[0].pattern})" if index % 2 else re.escape(part)
                for index, part in enumerate(parts)
            )
        )

    def parse(self, name: str, *, field: str) -> tuple[str, ...]:
        """The variable parts of `name` in order; InvalidField for `field` where it does not fit."""
        match = self._regex.fullmatch(name)
        if match is None:
            shapes = "; ".join(f"{{{each}}} is {_shape(each)[1]}" for each in self.variables)
            raise InvalidField(
                field, f"must look like {self.template!r} ({shapes}), not {_cut(name)!r}"
            )
        return match.groups()

    def matches(self, name: str) -> bool:
        """Whether `name` is of this kind."""
        return self._regex.fullmatch(name) is not None

    def format(self, **parts: str) -> str:
        """The name with these parts; InvalidField where a part is malformed."""
        for variable in self.variables:
            check(variable, parts[variable], field=variable)
        return self.template.format(**parts)


def check(variable: str, value: str, *, field: str) -> str:
    """`value`, if it may stand for `variable` in a name; InvalidField for `field` otherwise."""
    shape, text = _shape(variable)
    if not shape.fullmatch(value):
        raise InvalidField(field, f"must be {text}, not {_cut(value)!r}")
    return value


TENANT: Final = Pattern("tenants/{tenant}")
TASK: Final = Pattern("tenants/{tenant}/tasks/{task}")
AGENT: Final = Pattern("tenants/{tenant}/agents/{agent}")
AGENT_VERSION: Final = Pattern("tenants/{tenant}/agents/{agent}@{version}")
API_KEY: Final = Pattern("tenants/{tenant}/apiKeys/{api_key}")
DOCUMENT: Final = Pattern("tenants/{tenant}/documents/{document}")
FACT: Final = Pattern("tenants/{tenant}/facts/{fact}")
SCHEDULE: Final = Pattern("tenants/{tenant}/schedules/{schedule}")
SESSION: Final = Pattern("tenants/{tenant}/sessions/{session}")
TOOL: Final = Pattern("tenants/{tenant}/tools/{tool}")
BUDGET: Final = Pattern("tenants/{tenant}/budgets/{budget}")
COLLECTION: Final = Pattern("tenants/{tenant}/collections/{collection}")
RECORD: Final = Pattern("tenants/{tenant}/collections/{collection}/records/{record}")


def parse_agent(name: str, *, field: str) -> tuple[str, str, int | None]:
    """Tenant, agent and version of an agent's name; the version is None where it names none."""
    if "@" not in name:
        tenant, agent = AGENT.parse(name, field=field)
        return tenant, agent, None
    tenant, agent, version = AGENT_VERSION.parse(name, field=field)
    return tenant, agent, int(version)
