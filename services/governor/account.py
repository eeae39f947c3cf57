"""What the governor asks of its counters, and what these answer."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final, NamedTuple, Protocol

from services.governor.budget import Budget
from services.governor.window import Window


class Usage(NamedTuple):
    """What a call used. `cached_input_tokens` are a part of `input_tokens`."""

    input_tokens: int = 0
    output_tokens: int = 0
    model_calls: int = 0
    tool_calls: int = 0
    cache_hits: int = 0
    cached_input_tokens: int = 0


@dataclass(frozen=True, slots=True, eq=False)
class Counter:
    """What counts the spending under one budget within one window."""

    # Unique over all; has no blank.
    id: str
    budget: Budget
    window: Window
    # Spent, reserved and the call together may be this at most; 0 for a line that is not drawn.
    shutoff_micros: int
    throttle_micros: int
    degrade_micros: int
    # Up to here less than the most that a call can cost may be reserved, and leases granted.
    careful_micros: int
    # The place of the newest word on the budget; 0 where there never was one. What counts under an
    # earlier word may have missed something.
    written: int = 0
    # The counter of a task's cap is begun by its first call; any other is opened.
    opens_itself: bool = False


class Decision(NamedTuple):
    """What the lines of a call's budgets mean for it, and whose."""

    # As in the script: 0 go ahead, 1 with a cheaper tier, 2 later, 3 no.
    level: int
    # The id of the counter that decides; empty where level is 0.
    counter: str = ""
    spent_micros: int = 0
    # What calls under way are likely to cost; where it is no, the most that they can cost.
    reserved_micros: int = 0


class Wish(NamedTuple):
    """Something that is to be reserved in all its counters, or in none."""

    tenant: str
    key: str
    # What it is likely to cost, and the most that it can cost.
    likely_micros: int
    most_micros: int
    counters: Sequence[Counter]
    # Throttled only with everything else.
    interactive: bool = False
    # There is a cheaper tier to go to.
    can_degrade: bool = False
    # What the task has spent by its log; its counter is the first. None without a cap.
    task_spent_micros: int | None = None


class Held(NamedTuple):
    """Reserved, now or earlier with the same key."""

    # The key to settle it with: another than was asked for where that is settled.
    key: str
    amount_micros: int
    expires_at: datetime
    decision: Decision


@dataclass(frozen=True, slots=True)
class Refused:
    """Reserved nowhere."""

    decision: Decision


@dataclass(frozen=True, slots=True)
class Unopened:
    """Nothing was done: these counters are not there, and must be opened first."""

    counters: Sequence[Counter]


class Charge(NamedTuple):
    """What takes the place of a reservation, or is counted although there is none."""

    tenant: str
    key: str
    # Equal for equal figures: tells a repeat from a contradiction.
    model: str
    cost_micros: int
    usage: Usage
    # Where it is counted.
    counters: Sequence[Counter]
    # Its place in the journal.
    sequence: int
    # When the call ended.
    called_at: datetime
    # The lease that it was made under, and what that had set aside for it.
    lease: str = ""
    leased_micros: int = 0
    # The id of the task's counter, which is there only where the task has a cap.
    task_counter: str = ""
    # The sequence is known to be that of the key's first record.
    is_first: bool = False
    # The journal had the key before this settlement.
    is_repeated: bool = False


class Charged(NamedTuple):
    """The key is settled at this cost."""

    cost_micros: int
    # Settled before, with the same figures.
    repeated: bool


@dataclass(frozen=True, slots=True)
class ChargedOtherwise:
    """The key was settled before with other figures; nothing was changed."""

    cost_micros: int


@dataclass(frozen=True, slots=True)
class Unsure:
    """Nothing was done: the journal may have had the key before a counter was opened.

    Ask the ledger for the key's first record, and settle that.
    """


@dataclass(frozen=True, slots=True)
class FirstRecord:
    """What the ledger has of a key: what the journal said of it first."""

    # Its place in the journal.
    sequence: int
    # In the windows of this time it counts.
    settled_at: datetime
    model: str
    cost_micros: int
    usage: Usage


class SettledAs(NamedTuple):
    """By what a key is settled, as the counters remember it."""

    # Its place in the journal.
    sequence: int
    model: str
    cost_micros: int
    usage: Usage


@dataclass(frozen=True, slots=True)
class SettledBefore:
    """The key is settled, so there is nothing left to release."""


@dataclass(frozen=True, slots=True)
class Loan:
    """A lease that is asked for: at most `amount_micros`, or as much as there is room."""

    tenant: str
    key: str
    amount_micros: int
    counters: Sequence[Counter]


@dataclass(frozen=True, slots=True)
class Balance:
    """What the ledger has for a scope and a window."""

    spent_micros: int
    usage: Usage
    # It has all that the journal has up to here.
    sequence: int


@dataclass(frozen=True, slots=True)
class Standing:
    """Where a counter stands."""

    spent_micros: int
    reserved_micros: int
    usage: Usage
    # The cap that a task came with; 0 for the counter of a budget.
    limit_micros: int = 0
    # The most that calls under way can cost; what is reserved is likely.
    committed_micros: int = 0


class Outdated(Exception):
    """Nothing was done: budgets were set that this process does not know yet."""

    def __init__(self, sequence: int) -> None:
        """`sequence`: the place of the newest one."""
        super().__init__(f"budgets up to place {sequence} are not known yet")
        self.sequence: Final = sequence


class Counters(Protocol):
    """Counts what is reserved and spent. Each item is atomic over its counters.

    All methods raise DependencyUnavailable where the store cannot be reached;
    repeating them is then safe. Those that decide, read or settle raise Outdated.
    """

    async def reserve(
        self, wishes: Sequence[Wish], *, keep: timedelta
    ) -> Sequence[Held | Refused | Unopened]:
        """Reserves each wish in its counters, for so long; answers in order.

        A key that has a reservation finds it. One that is settled gets a
        reservation under another key.
        """
        ...

    async def weigh(self, wish: Wish) -> Decision | Unopened:
        """What `reserve` would decide on a key that is new; changes nothing."""
        ...

    async def lend(self, loan: Loan, *, keep: timedelta) -> Held | Unopened:
        """Reserves a lease, or nothing where there is no room; a key that has one finds it."""
        ...

    async def settle(
        self, charges: Sequence[Charge]
    ) -> tuple[Sequence[Charged | ChargedOtherwise | Unsure], Sequence[Counter]]:
        """Replaces reservations by what was used; answers in order.

        Also the counters that are not there: what belongs to them is kept until
        they are opened.
        """
        ...

    async def release(self, tenant: str, key: str, keep_micros: int = 0) -> int | SettledBefore:
        """Gives a reservation back but for `keep_micros`; what it gave, 0 where there is none."""
        ...

    @property
    def era(self) -> int:
        """Changes when no counter is believed any more."""
        ...

    async def open(self, counter: Counter, balance: Balance, era: int) -> bool:
        """Begins a counter that is not there with what the ledger has.

        False where the era has changed since the ledger was asked; nothing was done then.
        """
        ...

    async def note_budgets(self, sequence: int) -> None:
        """Lets nobody decide who does not know the budgets up to that place."""
        ...

    async def read(self, counters: Sequence[Counter]) -> Sequence[Standing | None]:
        """Where these stand; None for one that is not there."""
        ...
