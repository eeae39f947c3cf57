"""What counters say is spent and reserved, and what must be said of it."""

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Final, NamedTuple

from audit.finding import Finding, Invariant, TaskKey, finding
from audit.usage import Spent

_DAY: Final = timedelta(days=1)
# Where clocks are changed in a day it is this much shorter or longer.
_CHANGE: Final = timedelta(hours=2)
_SUBJECTS: Final = ("task-type", "agent", "session")


class CounterKey(NamedTuple):
    """What a counter counts, as its name in Redis says it."""

    # global, tenant, task-type, agent or session.
    kind: str
    # Empty for global.
    tenant: str
    # The task type, agent or session; empty for others.
    subject: str
    # day, month or lifetime.
    window: str
    # When it began, in seconds since 1970.
    start: int

    @property
    def name(self) -> str:
        """Its name in Redis, after the prefix of all."""
        return f"{self.kind}:{self.tenant}:{self.subject}:{self.window}:{self.start}"

    def counts(self, spent: Spent) -> bool:
        """Whether what was spent belongs to it."""
        return spent.settled_at >= self.start


def counter_key(name: str) -> CounterKey | None:
    """The counter of that name; None for one that is not compared with the journal.

    Those of tasks' caps are none: they begin with what the task's log says.
    """
    parts = name.split(":", 2)
    rest = parts[2].rsplit(":", 2) if len(parts) == 3 else []
    if len(rest) != 3 or parts[0] not in ("global", "tenant", *_SUBJECTS) or not rest[2].isdigit():
        return None
    return CounterKey(parts[0], parts[1], rest[0], rest[1], int(rest[2]))


@dataclass(frozen=True, slots=True)
class Counted:
    """Where a counter stands."""

    spent_micros: int
    reserved_micros: int
    # What all reservations that name it add up to.
    held_micros: int
    # The place of the newest word on its budget that it has followed.
    written: int = 0


@dataclass(frozen=True, slots=True)
class Overdue:
    """A reservation whose time is over."""

    tenant: str
    key: str
    expired_at: datetime
    micros: int


@dataclass(frozen=True, slots=True)
class Standing:
    """All counters and reservations, as of one moment."""

    counters: Mapping[CounterKey, Counted]
    overdue: Sequence[Overdue]
    reservations: int


@dataclass(slots=True)
class _Sum:
    # What was settled long enough ago to be counted for certain, and all there is.
    least: int = 0
    most: int = 0


@dataclass(slots=True)
class Sums:
    """What the journal says is spent under each of some counters, record by record."""

    # What was settled before then must be counted.
    final_before: float
    _sums: dict[CounterKey, _Sum] = field(default_factory=dict[CounterKey, _Sum])
    _by_scope: dict[tuple[str, str, str], list[CounterKey]] = field(
        default_factory=dict[tuple[str, str, str], list[CounterKey]]
    )

    def track(self, key: CounterKey) -> None:
        """Adds a counter; all before the first record."""
        self._sums[key] = _Sum()
        self._by_scope.setdefault((key.kind, key.tenant, key.subject), []).append(key)

    def add(self, spent: Spent) -> None:
        """Adds a record; one of each key."""
        for scope in (
            ("global", "", ""),
            ("tenant", spent.tenant, ""),
            ("task-type", spent.tenant, spent.task_type),
            ("agent", spent.tenant, spent.agent),
            ("session", spent.tenant, spent.session),
        ):
            for key in self._by_scope.get(scope, ()):
                if key.counts(spent):
                    found = self._sums[key]
                    found.most += spent.cost_micros
                    if spent.settled_at < self.final_before:
                        found.least += spent.cost_micros

    def least(self) -> Mapping[CounterKey, int]:
        """What each counter must have counted by now."""
        return {key: found.least for key, found in self._sums.items()}

    def most(self) -> Mapping[CounterKey, int]:
        """What each counter can have counted by now."""
        return {key: found.most for key, found in self._sums.items()}


def is_present(key: CounterKey, now: datetime) -> bool:
    """Whether the counter's window is certain to go on.

    Its name does not tell the time zone; where that is not UTC, an hour or two at the
    end of a window are left out, for the clock may be changed in it.
    """
    if key.window == "lifetime":
        return True
    start = datetime.fromtimestamp(key.start, UTC)
    if start > now:
        return False
    midnight = start.hour == start.minute == 0
    if key.window == "day":
        end = start + _DAY
        return now < (end if midnight else end - _CHANGE)
    if midnight and start.day == 1:
        return now < start + timedelta(days=monthrange(start.year, start.month)[1])
    # Its first day in UTC may be the last one of the month before.
    return now < start + timedelta(days=28) - _CHANGE


def counts_wrongly(key: CounterKey, counted: Counted, least: int, most: int) -> Finding | None:
    """What is to be said of a counter; None where it is right."""
    if not least <= counted.spent_micros <= most:
        journal = most if counted.spent_micros > most else least
        return finding(
            Invariant.SPEND,
            TaskKey(key.tenant, ""),
            f"The counter {key.name} has {counted.spent_micros} micro-dollars spent, and the"
            f" journal {journal}.",
            remedy=f"Remove it (`redis-cli del 'governor:{{spend}}:{key.name}'`): the governor"
            " begins it again with what the ledger has.",
        )
    if counted.reserved_micros != counted.held_micros:
        return finding(
            Invariant.SPEND,
            TaskKey(key.tenant, ""),
            f"The counter {key.name} has {counted.reserved_micros} micro-dollars reserved, and"
            f" its reservations are of {counted.held_micros}.",
            remedy="What is reserved too much comes back when the window ends; look for the writer"
            " that changed Redis beside the governor.",
        )
    return None


def stays_reserved(overdue: Overdue) -> Finding:
    """A reservation that nobody gives back."""
    return finding(
        Invariant.SPEND,
        TaskKey(overdue.tenant, ""),
        f"{overdue.micros} micro-dollars are reserved under {overdue.key}, which expired at"
        f" {overdue.expired_at:%Y-%m-%dT%H:%M:%SZ}.",
        remedy="The governor gives such reservations back with the next call: see whether one"
        " runs (`agentmesh status`).",
    )
