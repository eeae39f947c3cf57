"""An amount that the governor has set aside for this process, out of which calls are admitted."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from services.reasoning.model import Tier
from services.reasoning.price_list import Price


@dataclass(frozen=True, slots=True)
class Terms:
    """What the governor granted, and for which calls."""

    # Its name at the governor.
    lease: str
    micros: int
    # By this clock's monotonic seconds: admit nothing under it from then on.
    ends_at: float
    price_version: str
    # The prices of that version, by model.
    prices: Mapping[str, Price]
    # Calls of a session must be asked for: sessions have budgets of their own.
    asks_for_sessions: bool
    # Tiers that may be called; all if empty.
    tiers: frozenset[Tier]

    def cover(self, tier: Tier, session: str) -> bool:
        """Whether calls of this tier, in this session, may be admitted."""
        return not (session and self.asks_for_sessions) and (not self.tiers or tier in self.tiers)


class Lease:
    """What is left of a granted amount. Pure arithmetic: it asks nobody and knows no time.

    Of what the governor holds for it, calls in flight have `held_micros`, settlements that
    the governor does not know yet take `due_micros`, and `free_micros` may be given out.
    """

    __slots__ = ("due_micros", "free_micros", "held_micros", "is_uncertain", "tenant", "terms")

    def __init__(self, tenant: str, terms: Terms) -> None:
        self.tenant: Final = tenant
        self.terms: Final = terms
        self.free_micros = terms.micros
        self.held_micros = 0
        self.due_micros = 0
        # The governor may hold more for it than is known here.
        self.is_uncertain = False

    @property
    def bound_micros(self) -> int:
        """What must stay reserved, whatever becomes of the rest."""
        return self.held_micros + self.due_micros

    @property
    def has_leftovers(self) -> bool:
        """Whether the governor may hold something for it that nobody needs."""
        return self.free_micros > 0 or self.is_uncertain

    def take(self, micros: int) -> bool:
        """Sets `micros` aside for a call, where so much is free."""
        if micros > self.free_micros:
            return False
        self.free_micros -= micros
        self.held_micros += micros
        return True

    def give_back(self, micros: int) -> None:
        """Ends a call that cost nothing of the `micros` set aside for it."""
        self.held_micros -= micros
        self.free_micros += micros

    def spend(self, held_micros: int, cost_micros: int) -> int:
        """Ends a call that had `held_micros` set aside; how much of the lease its settlement takes.

        What it did not cost is free again. What it cost beyond is taken from what is
        free: less than the cost only where there is not as much.
        """
        self.give_back(held_micros)
        taken = min(cost_micros, self.free_micros)
        self.free_micros -= taken
        self.due_micros += taken
        return taken

    def settled(self, micros: int) -> None:
        """The governor knows a settlement that took `micros`."""
        self.due_micros -= micros

    def refused(self, micros: int) -> None:
        """The governor did not take a settlement of `micros`."""
        self.due_micros -= micros
        self.free_micros += micros

    def trim(self) -> int:
        """What is free goes back; what has to stay."""
        self.free_micros = 0
        # Settlements on their way may be counted before it is trimmed to what they need.
        self.is_uncertain = self.due_micros > 0
        return self.bound_micros


class Demand:
    """What the last seconds used, fading evenly: how much a lease should hold.

    Three figures fade with `cover_seconds`; at a steady rate each is the rate times that.
    """

    __slots__ = ("_at", "_calls", "_cover_seconds", "_largest", "_spent")

    def __init__(self, cover_seconds: float, now: float) -> None:
        self._cover_seconds: Final = cover_seconds
        self._at = now
        self._calls = 0.0
        self._spent = 0.0
        self._largest = 0.0

    @property
    def calls(self) -> float:
        """Calls within the time that is covered, as of the last one."""
        return self._calls

    def asked(self, micros: int, now: float) -> None:
        """A call wants `micros` set aside."""
        self._fade(now)
        self._calls += 1.0
        self._largest = max(self._largest, micros)

    def spent(self, micros: int) -> None:
        """A call has cost `micros`."""
        self._spent += micros

    def micros(self, held_micros: int) -> int:
        """What the time that is covered needs, while as much as `held_micros` is in flight."""
        return math.ceil(self._spent + self._largest) + held_micros

    def low_micros(self) -> int:
        """Below this, a quarter of that time is left, or less than another call needs."""
        return math.ceil(self._spent / 4 + self._largest)

    def _fade(self, now: float) -> None:
        passed = now - self._at
        if passed > 0.0:
            left = math.exp(-passed / self._cover_seconds)
            self._calls *= left
            self._spent *= left
            self._largest *= left
            self._at = now
