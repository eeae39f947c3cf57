"""What an executor believes of one queue. Pure; only the broker knows for sure."""

from collections import deque
from enum import Enum, auto
from typing import Final, Generic, TypeVar

from tasklog.subjects import Queue

# A pull that finds what it expects is answered at once. One that does not has
# kept workers for so long.
DEMAND_SECONDS: Final = 0.25
# How long a pull waits for what may come. It keeps no workers.
INVITATION_SECONDS: Final = 2.0
_LARGEST_INVITATION: Final = 8

T = TypeVar("T")


class Pull(Enum):
    """Why a pull is open."""

    # Tasks are waiting: each place has a worker kept for it.
    DEMAND = auto()
    # Tasks may come soon: a worker is looked for when they do.
    INVITATION = auto()


class QueueView(Generic[T]):
    """One queue, with at most one open pull. `T` is a task in the hands of this executor."""

    __slots__ = (
        "_came_at",
        "_got",
        "_heard",
        "_window",
        "before_sweep",
        "blocked",
        "hot",
        "kind",
        "mine",
        "others",
        "parked",
        "pending",
        "places",
        "queue",
        "waiting_since",
    )

    def __init__(self, queue: Queue) -> None:
        self.queue: Final = queue
        # Tasks that nobody has pulled, without those that the open pull will bring.
        self.pending = 0
        # Tasks that this executor holds.
        self.mine = 0
        # Those of them that have no worker, and since when, by the caller's clock.
        self.parked: Final[deque[tuple[float, T]]] = deque()
        # Tasks that other executors hold, or that are delivered again later.
        self.others = 0
        # Messages that the open pull may still bring; 0 where none is open.
        self.places = 0
        self.kind = Pull.DEMAND
        # The last pull brought less than was believed to be there: look first.
        self.blocked = False
        # Tasks come often enough to have a pull wait for them.
        self.hot = False
        self.before_sweep = 0
        # Since when it should have been served, by the caller's clock.
        self.waiting_since: float | None = None
        self._got = 0
        self._window = 1
        self._heard = False
        self._came_at = float("-inf")

    @property
    def wants_demand(self) -> bool:
        """Whether tasks wait for which no pull is open."""
        return self.pending > 0 and not self.places and not self.blocked

    @property
    def wants_invitation(self) -> bool:
        """Whether a pull should wait for what may come: new tasks, or others' tasks again."""
        return (self.hot or self.others > 0) and not self.places

    @property
    def window(self) -> int:
        """How many tasks to invite."""
        return self._window if self.hot else 1

    def wake(self) -> None:
        """A task was stored."""
        if self.places:
            # It is what the open pull brings, or brought.
            self._heard = True
        else:
            self.pending += 1
        self.blocked = False

    def look(self, *, queued: int, held: int) -> None:
        """The broker says how many nobody has pulled, and how many are pulled and not settled."""
        self.pending = max(0, queued - self.places)
        # What was settled while the broker counted is nobody else's.
        self.others = max(0, held - max(self.mine, self.before_sweep))
        self.blocked = False

    def open(self, kind: Pull, places: int) -> None:
        """A pull is sent."""
        self.kind, self.places = kind, places
        self._got = 0
        self._heard = False

    def take(self, *, pending: int, now: float) -> None:
        """A message came, and so many were left behind it."""
        self.waiting_since = None
        self.blocked = False
        self._got += 1
        if self.places:
            self.places -= 1
        self.pending = max(0, pending - self.places)
        if not self.places:
            # Used up. What was not enough is doubled, as by TCP's slow start.
            if self.kind is Pull.INVITATION:
                self._window = min(2 * self._window, _LARGEST_INVITATION)
            self.hot = now - self._came_at < INVITATION_SECONDS
        self._came_at = now

    def close(self) -> int:
        """The pull has ended; the places that it leaves unused."""
        left, self.places = self.places, 0
        if self.kind is Pull.DEMAND or self._heard:
            # What was heard of and did not come, another executor holds by now.
            self.others = max(self.others, 1)
        if self.kind is Pull.INVITATION:
            self._window = max(1, self._got)
            self.hot = self._got > 0 or self._heard
        else:
            self.blocked = self.pending > 0
        return left
