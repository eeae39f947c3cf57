"""What tasks are listed by: a few short texts a task, its terms.

Every filter of a list is a term, or a choice of some, so that one index, in the
order of the list, serves them all.
"""

import hashlib
from collections.abc import Collection, Iterable
from typing import Final

from services.coordinator.read_model import TaskFilter
from services.coordinator.task_row import TaskRow
from tasklog.formats import EVENTS

# Every task that may be listed has it.
ANY: Final = ""
# An index entry of PostgreSQL has 2,700 bytes.
_LONGEST: Final = 120
_DIGEST_BYTES: Final = 16


def of_row(row: TaskRow) -> frozenset[str]:
    """The terms of a task; none while its first event is still to come."""
    return frozenset((*fixed(row), state(row.state))) if row.first_event else frozenset()


def fixed(row: TaskRow) -> Iterable[str]:
    """Those that follow from its lane and its first event; its session and labels may expire."""
    first = EVENTS.decode(row.first_event)
    task = first.submitted.task
    named = first.expired.agent if row.expired else task.agent
    yield ANY
    yield _lane(row.lane)
    if named:
        yield _agent(named)
        yield _agent(named.partition("@")[0])
    if task.session:
        yield _session(task.session)
    for key, value in task.labels.items():
        yield _label(key, value)


def state(number: int) -> str:
    """The term of a state."""
    return f"t{number}"


def of_filter(wanted: TaskFilter) -> list[Collection[str]]:
    """What a task must have: at least one term of each collection."""
    groups: list[Collection[str]] = []
    if wanted.states:
        groups.append(sorted({state(each) for each in wanted.states}))
    if wanted.lane:
        groups.append([_lane(wanted.lane)])
    if wanted.agent:
        groups.append([_agent(wanted.agent)])
    if wanted.session:
        groups.append([_session(wanted.session)])
    groups += ([_label(key, value)] for key, value in wanted.labels.items())
    return groups or [[ANY]]


def _lane(number: int) -> str:
    return f"l{number}"


def _agent(name: str) -> str:
    # The tenant stands beside it anyway.
    return _short(f"a{name.rpartition('/')[2]}")


def _session(session: str) -> str:
    return _short(f"s{session}")


def _label(key: str, value: str) -> str:
    # The length tells where the key ends, whatever is in it.
    return _short(f"k{len(key)}:{key}={value}")


def _short(term: str) -> str:
    """The term itself, where a database can hold it as a key; its digest otherwise."""
    if len(term) <= _LONGEST and "\0" not in term:
        return term
    digest = hashlib.sha256(term.encode()).digest()[:_DIGEST_BYTES]
    return f"#{digest.hex()}"
