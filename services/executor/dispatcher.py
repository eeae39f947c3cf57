"""Which task this executor runs next, and what it asks the broker for. Pure: it does neither."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final, Generic, TypeVar

from agentmesh.common.v1 import tier_pb2
from services.executor.fair_share import FairShare
from services.executor.lane_slots import LaneSlots
from services.executor.queue_view import (
    DEMAND_SECONDS,
    INVITATION_SECONDS,
    Pull,
    QueueView,
)
from tasklog.policy import Policy
from tasklog.queues import Depth
from tasklog.subjects import Queue

# The order in which lanes borrow workers.
_LANES: Final = (tier_pb2.LANE_INTERACTIVE, tier_pb2.LANE_STANDARD, tier_pb2.LANE_BATCH)
# Places of pulls that wait, beyond the workers that are free: so that a few free
# workers are enough to hear of many queues.
_OVERSHOOT: Final = 32
# With free workers, a task that waits is served in milliseconds.
_STALL_SECONDS: Final = 5.0

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Ask(Generic[T]):
    """A pull to be sent. It is open already, as far as the dispatcher is concerned."""

    view: QueueView[T]
    places: int
    expires_seconds: float


@dataclass(frozen=True, slots=True)
class Plan(Generic[T]):
    """What is to be done now."""

    begin: list[T] = field(default_factory=list[T])
    ask: list[Ask[T]] = field(default_factory=list[Ask[T]])


class _Lane(Generic[T]):
    def __init__(self, lane: tier_pb2.Lane) -> None:
        self.lane: Final = lane
        self.share: Final = FairShare()
        # By tenant; highest priority first.
        self.tenants: Final[dict[str, list[QueueView[T]]]] = {}
        # In the order in which they come to have a pull that waits.
        self.inviting: Final[dict[QueueView[T], None]] = {}
        # Places of pulls that wait.
        self.invited = 0


class Dispatcher(Generic[T]):
    """Shares this executor's workers among lanes, tenants and priorities.

    A free worker goes to the tenant that is furthest behind in its share, and
    there to the highest priority. Pulls for tasks that are known to wait hold
    workers, so what they bring begins at once. Pulls that wait for what may come
    hold none, and a bounded number of their places is open while any worker is
    free; what they bring when all are busy is parked, and begins in its turn.
    """

    def __init__(self, policy: Policy) -> None:
        self._policy = policy
        self._slots: Final = LaneSlots(policy)
        self._lanes: Final[dict[int, _Lane[T]]] = {lane: _Lane(lane) for lane in _LANES}
        self._views: Final[dict[Queue, QueueView[T]]] = {}
        # Whether a plan may have anything in it.
        self.is_due = False

    def view(self, queue: Queue) -> QueueView[T]:
        """What is believed of a queue; from now on it is one that is known."""
        view = self._views.get(queue)
        if view is None:
            view = self._views[queue] = QueueView(queue)
            views = self._lanes[queue.lane].tenants.setdefault(queue.tenant, [])
            views.append(view)
            views.sort(key=lambda each: -each.queue.priority)
        return view

    def resize(self, policy: Policy) -> None:
        """Goes by another policy from now on."""
        self._policy = policy
        self._slots.resize(policy)
        self.is_due = True
        for view in self._views.values():
            self._note(view)

    def wake(self, view: QueueView[T]) -> None:
        """A task was stored in the queue."""
        view.wake()
        self._note(view)

    def begin_look(self) -> None:
        """The broker is about to be asked how queues stand."""
        for view in self._views.values():
            view.before_sweep = view.mine

    def look(self, view: QueueView[T], depth: Depth, now: float) -> bool:
        """The broker says how a queue stands. False if it should have been served long since."""
        view.look(queued=depth.queued, held=depth.held)
        self._note(view)
        has_room = self._room(view) + view.places > 0
        if not depth.queued or not has_room or not self._slots.free(view.queue.lane):
            view.waiting_since = None
        elif view.waiting_since is None:
            view.waiting_since = now
        elif now - view.waiting_since > _STALL_SECONDS:
            view.waiting_since = None
            return False
        return True

    def take(
        self, view: QueueView[T], task: T, *, is_repeated: bool, pending: int, now: float
    ) -> bool:
        """A task came. True if it begins now; else it is parked.

        Args:
            view: Its queue.
            task: What a plan shall name when its turn comes.
            is_repeated: Whether it was delivered before, to anybody.
            pending: How many the broker had left behind it.
            now: In seconds of any clock that never goes back.
        """
        lane = self._lanes[view.queue.lane]
        has_worker = self._take_place(lane, view, pending, now)
        view.mine += 1
        if is_repeated and view.others:
            view.others -= 1
        if not has_worker and self._slots.free(lane.lane) > 0:
            lane.share.charge(view.queue.tenant, self._weight(view))
            self._slots.take(lane.lane)
            has_worker = True
        if not has_worker:
            view.parked.append((now, task))
        self._note(view)
        return has_worker

    def take_again(self, view: QueueView[T], *, pending: int, now: float) -> None:
        """A task came that this executor holds already, or leaves to others: its place is free."""
        lane = self._lanes[view.queue.lane]
        if self._take_place(lane, view, pending, now):
            self._give_up(lane, view, 1)
        self._note(view)

    def close(self, view: QueueView[T]) -> None:
        """The queue's pull has ended before it was used up."""
        lane, left = self._lanes[view.queue.lane], view.close()
        if view.kind is Pull.DEMAND:
            self._give_up(lane, view, left)
        else:
            lane.invited -= left
        self._note(view)

    def finish(self, view: QueueView[T], *, is_put_off: bool) -> None:
        """A task that had begun is in this executor's hands no longer."""
        lane = self._lanes[view.queue.lane]
        self._slots.release(lane.lane)
        view.mine -= 1
        view.others += is_put_off
        # Any lane may borrow the worker.
        self.is_due = self.is_due or any(
            each.share or each.inviting for each in self._lanes.values()
        )
        for each in lane.tenants[view.queue.tenant]:
            self._note(each)

    def unpark(self, before: float) -> Iterator[T]:
        """Gives up what was parked before that time: others may have workers for it."""
        for view in self._views.values():
            while view.parked and view.parked[0][0] < before:
                _, task = view.parked.popleft()
                view.mine -= 1
                view.others += 1
                self._note(view)
                yield task

    def plan(self) -> Plan[T]:
        """Takes free workers for what waits, and says what to begin and what to ask for."""
        self.is_due = False
        plan: Plan[T] = Plan()
        for lane in self._lanes.values():
            self._fill(lane, plan)
        for lane in self._lanes.values():
            self._invite(lane, plan)
        return plan

    def _fill(self, lane: _Lane[T], plan: Plan[T]) -> None:
        demands: dict[QueueView[T], int] = {}
        while self._slots.free(lane.lane) > 0 and (tenant := lane.share.first()) is not None:
            view = self._next(lane.tenants[tenant], demands)
            if view is None:
                lane.share.leave(tenant)
                continue
            lane.share.charge(tenant, self._weight(view))
            self._slots.take(lane.lane)
            if view.parked:
                plan.begin.append(view.parked.popleft()[1])
            else:
                demands[view] = demands.get(view, 0) + 1
        for view, places in demands.items():
            view.pending -= places
            self._ask(plan, view, Pull.DEMAND, places)

    def _next(
        self, views: Sequence[QueueView[T]], demands: dict[QueueView[T], int]
    ) -> QueueView[T] | None:
        """The tenant's queue with the highest priority in which something waits."""
        for view in views:
            if view.parked:
                return view
            if view.blocked or view.pending <= demands.get(view, 0):
                continue
            # While a pull for it is on its way, nothing lower comes first.
            demanded = sum(demands.get(each, 0) for each in views)
            return view if not view.places and self._room(view) > demanded else None
        return None

    def _invite(self, lane: _Lane[T], plan: Plan[T]) -> None:
        free = self._slots.free(lane.lane)
        budget = free + _OVERSHOOT - lane.invited if free else 0
        while budget > 0 and lane.inviting:
            view = next(iter(lane.inviting))
            del lane.inviting[view]
            room = self._room(view)
            if not view.wants_invitation or (view.wants_demand and room > 0):
                continue
            # What others hold comes again even where there is no room for more.
            places = min(view.window, budget, max(room, 1 if view.others else 0))
            if places > 0:
                budget -= places
                lane.invited += places
                self._ask(plan, view, Pull.INVITATION, places)

    def _ask(self, plan: Plan[T], view: QueueView[T], kind: Pull, places: int) -> None:
        view.open(kind, places)
        seconds = DEMAND_SECONDS if kind is Pull.DEMAND else INVITATION_SECONDS
        plan.ask.append(Ask(view, places, seconds))

    def _room(self, view: QueueView[T]) -> int:
        """How many more of the tenant's tasks may run in the lane.

        The broker holds to the limit in each queue. Over queues of different
        priority it is kept here, by what the last look at the others said.
        """
        views = self._lanes[view.queue.lane].tenants[view.queue.tenant]
        busy = sum(each.mine + each.others + each.places for each in views)
        return self._policy.tenant(view.queue.tenant).max_concurrent - busy

    def _take_place(self, lane: _Lane[T], view: QueueView[T], pending: int, now: float) -> bool:
        """Uses a place of the open pull; whether that had a worker."""
        was_open = view.places > 0
        view.take(pending=pending, now=now)
        if was_open and view.kind is Pull.INVITATION:
            lane.invited -= 1
        return was_open and view.kind is Pull.DEMAND

    def _give_up(self, lane: _Lane[T], view: QueueView[T], workers: int) -> None:
        self._slots.release(lane.lane, workers)
        lane.share.refund(view.queue.tenant, self._weight(view), workers)

    def _note(self, view: QueueView[T]) -> None:
        lane = self._lanes[view.queue.lane]
        waits = bool(view.parked) or view.wants_demand
        if waits:
            lane.share.enter(view.queue.tenant)
        if view.wants_invitation:
            lane.inviting[view] = None
            waits = True
        if waits and not self.is_due:
            self.is_due = self._slots.free(lane.lane) > 0

    def _weight(self, view: QueueView[T]) -> int:
        return self._policy.tenant(view.queue.tenant).weight
