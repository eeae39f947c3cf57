"""Which task is next, and what is asked for."""

from collections import Counter
from collections.abc import Sequence

from agentmesh.common.v1 import tier_pb2
from services.executor.dispatcher import Ask, Plan
from services.executor.played_broker import Played, places_for_all_lanes, policy
from services.executor.queue_view import Pull, QueueView
from tasklog.queues import Depth
from tasklog.subjects import Queue

_STANDARD = tier_pb2.LANE_STANDARD


def _shares(order: Sequence[Queue]) -> dict[str, int]:
    return dict(Counter(queue.tenant for queue in order))


def test_a_flood_leaves_another_tenant_its_share() -> None:
    """Two thousand tasks stand there; twenty of another tenant are every second one from then."""
    played = Played(policy())
    played.submit(Queue("a", _STANDARD, 0), 2000)
    played.run(100)
    played.submit(Queue("b", _STANDARD, 0), 20)
    assert _shares(played.run(42)) == {"a": 22, "b": 20}


def test_tenants_are_served_by_weight() -> None:
    """Three, two and one of six."""
    played = Played(policy(weights="aaabbc"))
    for tenant in "abc":
        played.submit(Queue(tenant, _STANDARD, 0), 200)
    played.run(10)
    assert _shares(played.run(120)) == {"a": 60, "b": 40, "c": 20}


def test_a_tenants_highest_priority_comes_first() -> None:
    """What waits at a lower one goes on when that is empty."""
    played = Played(policy(workers=1, shared=0))
    played.submit(Queue("a", _STANDARD, 0), 5)
    played.run(1)
    played.submit(Queue("a", _STANDARD, 5), 3)
    order = played.run(7)
    # One was pulled before the urgent ones were there.
    assert [queue.priority for queue in order] == [5, 5, 5, 0, 0, 0, 0]


def test_a_tenants_limit_holds_over_its_priorities() -> None:
    """Three tasks at once, whatever their queue; more when one ends."""
    played = Played(policy(workers=10, concurrent=3))
    played.submit(Queue("a", _STANDARD, 0), 10)
    played.submit(Queue("a", _STANDARD, 5), 2)
    played.plan()
    played.deliver_all()
    assert sorted(queue.priority for queue in played.running.values()) == [0, 5, 5]
    assert played.plan() == Plan()
    played.end(next(iter(played.running)))
    assert [(ask.view.queue.priority, ask.places) for ask in played.plan().ask] == [(0, 1)]


def test_lanes_borrow_in_their_order() -> None:
    """INTERACTIVE takes what is shared before STANDARD does; BATCH keeps its own."""
    played = Played(policy(workers=2, shared=3))
    assert places_for_all_lanes(played) == {
        tier_pb2.LANE_INTERACTIVE: 5,
        tier_pb2.LANE_STANDARD: 2,
        tier_pb2.LANE_BATCH: 2,
    }


def test_a_busy_queue_without_backlog_has_a_pull_that_waits() -> None:
    """Its size doubles as long as it is used up; unused, it is not renewed."""
    played, queue = Played(policy(workers=50)), Queue("a", _STANDARD, 0)

    def asked() -> list[tuple[Pull, int]]:
        return [(ask.view.kind, ask.places) for ask in played.plan().ask]

    for _ in range(2):
        played.submit(queue)
        assert asked() == [(Pull.DEMAND, 1)]
        assert played.deliver(queue)
    for size in (1, 2, 4, 8, 8):
        assert asked() == [(Pull.INVITATION, size)]
        played.submit(queue, size)
        while played.deliver(queue):
            pass
    assert asked() == [(Pull.INVITATION, 8)]
    played.expire(queue)
    assert asked() == []


def test_what_is_invited_beyond_the_workers_is_parked_and_begins_in_turn() -> None:
    """It begins when a worker is free, before anything else of its tenant."""
    played, queue = Played(policy(workers=1, shared=0)), Queue("a", _STANDARD, 0)
    played.dispatcher.look(played.view(queue), Depth(0, 1, 0, 0), 0.0)
    assert [ask.places for ask in played.plan().ask] == [1]
    other = Queue("b", _STANDARD, 0)
    played.submit(other)
    played.plan()
    assert played.deliver(other)
    played.submit(queue)
    assert played.deliver(queue)
    assert (list(played.running), len(played.view(queue).parked)) == ([1], 1)
    played.end(1)
    assert played.plan().begin == [2]


def test_a_queue_in_which_others_hold_tasks_has_a_pull_that_waits() -> None:
    """Also where the tenant's limit is reached: it is theirs that may come again."""
    played, queue = Played(policy(concurrent=3)), Queue("a", _STANDARD, 0)
    played.dispatcher.look(played.view(queue), Depth(5, 3, 0, 0), 0.0)
    assert played.plan().ask == [Ask(played.view(queue), 1, 2.0)]


def test_a_pull_that_finds_nothing_gives_its_workers_and_its_turn_back() -> None:
    """A pull that keeps none waits in its stead; the next look says whether there is more."""
    played = Played(policy())
    queue = Queue("a", _STANDARD, 0)
    played.dispatcher.look(played.view(queue), Depth(9, 0, 0, 0), 0.0)
    assert [ask.places for ask in played.plan().ask] == [4]
    played.expire(queue)
    assert played.plan() == Plan(ask=[Ask(played.view(queue), 1, 2.0)])
    played.expire(queue)
    for tenant in "ab":
        view = played.view(Queue(tenant, _STANDARD, 0))
        played.dispatcher.look(view, Depth(9, 0, 0, 0), 1.0)
    assert [(ask.view.queue.tenant, ask.places) for ask in played.plan().ask] == [
        ("a", 2),
        ("b", 2),
    ]


def test_what_the_broker_kept_back_is_asked_for_when_it_gives_something() -> None:
    """It may have kept to the tenant's limit: one task that comes says that there is room."""
    played, queue = Played(policy()), Queue("a", _STANDARD, 0)
    played.submit(queue, 9, is_heard=False)
    played.dispatcher.look(played.view(queue), Depth(9, 0, 0, 0), 0.0)
    played.plan()
    played.expire(queue)
    assert [ask.view.kind for ask in played.plan().ask] == [Pull.INVITATION]
    assert played.deliver(queue)
    assert [(ask.view.kind, ask.places) for ask in played.plan().ask] == [(Pull.DEMAND, 3)]


def test_a_task_that_another_executor_was_quicker_to_take_may_come_again() -> None:
    """A pull waits for it, until a look says that nobody holds it any more."""
    played, queue = Played(policy()), Queue("a", _STANDARD, 0)
    played.submit(queue)
    played.plan()
    played.queues[queue].queued.clear()
    for _ in range(2):
        played.expire(queue)
        assert [ask.view.kind for ask in played.plan().ask] == [Pull.INVITATION]
    played.look()
    played.expire(queue)
    assert played.plan() == Plan()


def test_pulls_that_wait_are_bounded_while_workers_are_free() -> None:
    """Those that come to nothing make room for others, and none are sent when all are busy."""
    played = Played(policy(workers=2, shared=0))
    views = [played.view(Queue(f"t{number}", _STANDARD, 0)) for number in range(40)]

    def asked() -> list[str]:
        return [ask.view.queue.tenant for ask in played.dispatcher.plan().ask]

    def take(view: QueueView[int], task: int) -> bool:
        return played.dispatcher.take(view, task, is_repeated=True, pending=0, now=0.0)

    for view in views:
        played.dispatcher.look(view, Depth(0, 1, 0, 0), 0.0)
    assert asked() == [f"t{number}" for number in range(34)]
    assert asked() == []
    played.dispatcher.close(views[0])
    played.dispatcher.close(views[1])
    assert asked() == ["t34", "t35"]
    assert [take(view, number) for number, view in enumerate(views[2:5])] == [True, True, False]
    assert asked() == []
    played.dispatcher.finish(views[2], is_put_off=False)
    plan = played.dispatcher.plan()
    assert (plan.begin, plan.ask) == ([2], [])
    played.dispatcher.finish(views[3], is_put_off=False)
    # One worker is free: 33 places, of which 31 are open.
    assert asked() == ["t36", "t37"]


def test_a_queue_that_is_not_served_although_it_could_be_is_noticed() -> None:
    """After five seconds with free workers; not while all of them are busy."""
    played, queue = Played(policy(workers=1, shared=0)), Queue("a", _STANDARD, 0)
    view = played.view(queue)
    waiting = Depth(1, 0, 0, 0)
    assert [played.dispatcher.look(view, waiting, now) for now in (0.0, 3.0, 5.0, 5.1)] == [
        True,
        True,
        True,
        False,
    ]
    played.submit(queue)
    played.plan()
    assert played.deliver(queue)
    assert all(played.dispatcher.look(view, waiting, now) for now in (6.0, 9.0, 12.0))
