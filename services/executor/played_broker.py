"""A broker that is played, for tests of a dispatcher; only for tests."""

from collections import Counter
from dataclasses import dataclass, field

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from services.executor.dispatcher import Dispatcher, Plan
from services.executor.queue_view import QueueView
from tasklog.policy import built_in, policy_of
from tasklog.queues import Depth
from tasklog.subjects import LANES, Queue

_STANDARD = tier_pb2.LANE_STANDARD
QUEUES = [
    Queue(tenant, lane, priority)
    for tenant in ("a", "b", "c")
    for lane, priority in (
        (tier_pb2.LANE_INTERACTIVE, 0),
        (_STANDARD, 0),
        (_STANDARD, 5),
    )
]


def policy(
    *, workers: int = 2, shared: int = 2, concurrent: int = 100, weights: str = "aabbcc"
) -> QueuePolicy:
    """Lanes of so many workers; a tenant's weight is how often `weights` names it."""
    message = built_in()
    message.shared_workers = shared
    for lane in message.lanes:
        lane.workers, lane.max_concurrent = workers, workers + shared
    tier = message.tenant_tiers.pop()
    del message.tenant_tiers[:]
    for tenant, weight in Counter(weights).items():
        each = message.tenant_tiers.add()
        each.CopyFrom(tier)
        each.id, each.weight, each.max_concurrent = tenant, weight, concurrent
        message.tenants[tenant] = tenant
        message.default_tenant_tier = tenant
    return message


@dataclass
class _BrokerQueue:
    """A consumer: what it has, and what one pull may still bring."""

    queued: list[int] = field(default_factory=list[int])
    again: list[int] = field(default_factory=list[int])
    out: set[int] = field(default_factory=set[int])
    places: int = 0


class Played:
    """A dispatcher, its broker, and tasks that end when they are told to."""

    def __init__(self, limits: QueuePolicy) -> None:
        self.policy = policy_of(limits)
        self.dispatcher = Dispatcher[int](self.policy)
        self.queues = {queue: _BrokerQueue() for queue in QUEUES}
        self.running: dict[int, Queue] = {}
        self.held: dict[int, Queue] = {}
        self.done: list[int] = []
        self.order: list[Queue] = []
        self.count = 0
        self.now = 0.0

    def view(self, queue: Queue) -> QueueView[int]:
        return self.dispatcher.view(queue)

    def submit(self, queue: Queue, tasks: int = 1, *, is_heard: bool = True) -> None:
        for _ in range(tasks):
            self.count += 1
            self.queues[queue].queued.append(self.count)
            if is_heard:
                self.dispatcher.wake(self.view(queue))

    def plan(self) -> Plan[int]:
        plan = self.dispatcher.plan()
        for task in plan.begin:
            self._begin(task)
        for ask in plan.ask:
            assert self.queues[ask.view.queue].places == 0, "one pull at a time"
            self.queues[ask.view.queue].places = ask.places
        return plan

    def deliver(self, queue: Queue) -> bool:
        """Delivers one message, if there is one and somebody who asked for it."""
        broker = self.queues[queue]
        limit = self.policy.tenant(queue.tenant).max_concurrent
        is_repeated = bool(broker.again)
        source = broker.again or (broker.queued if len(broker.out) < limit else [])
        if not source or not broker.places:
            return False
        broker.places -= 1
        self.now += 0.001
        task = source.pop(0)
        broker.out.add(task)
        self.held[task] = queue
        if self.dispatcher.take(
            self.view(queue),
            task,
            is_repeated=is_repeated,
            pending=len(broker.queued),
            now=self.now,
        ):
            self._begin(task)
        return True

    def deliver_all(self) -> None:
        """One of each queue after the other, as the broker does."""
        while sum(self.deliver(queue) for queue in self.queues):
            pass

    def expire(self, queue: Queue) -> None:
        if self.queues[queue].places:
            self.queues[queue].places = 0
            self.dispatcher.close(self.view(queue))

    def end(self, task: int) -> None:
        queue = self.running.pop(task)
        del self.held[task]
        self.queues[queue].out.remove(task)
        self.done.append(task)
        self.dispatcher.finish(self.view(queue), is_put_off=False)

    def put_off(self, task: int) -> None:
        queue = self.running.pop(task)
        del self.held[task]
        self.queues[queue].again.append(task)
        self.dispatcher.finish(self.view(queue), is_put_off=True)

    def unpark(self) -> None:
        for task in self.dispatcher.unpark(self.now + 1):
            self.queues[self.held.pop(task)].again.append(task)

    def look(self) -> None:
        self.dispatcher.begin_look()
        for queue, broker in self.queues.items():
            depth = Depth(len(broker.queued), len(broker.out), redelivered=0, delivered=0)
            self.dispatcher.look(self.view(queue), depth, self.now)

    def resize(self, limits: QueuePolicy) -> None:
        self.policy = policy_of(limits)
        self.dispatcher.resize(self.policy)

    def run(self, tasks: int, *, at_once: int = 1) -> list[Queue]:
        """Runs that many tasks, each as short as the others; their queues in order of begin."""
        start = len(self.order)
        while len(self.order) < start + tasks:
            self.plan()
            self.deliver_all()
            for task in list(self.running)[:at_once]:
                self.end(task)
        return self.order[start : start + tasks]

    def _begin(self, task: int) -> None:
        queue = self.held[task]
        self.running[task] = queue
        self.order.append(queue)


def places_for_all_lanes(played: Played) -> dict[int, int]:
    """How much is asked for in each lane where all of them have more than enough."""
    for lane in LANES:
        played.dispatcher.look(played.view(Queue("a", lane, 0)), Depth(50, 0, 0, 0), played.now)
    return {ask.view.queue.lane: ask.places for ask in played.dispatcher.plan().ask}
