"""A dispatcher and its broker, in every order of events."""

from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, invariant, precondition, rule

from services.executor.played_broker import QUEUES, Played, places_for_all_lanes, policy
from tasklog.subjects import LANES, Queue


class AnyOrder(RuleBasedStateMachine):
    """Tasks, signals, deliveries, ends of pulls and new policies in any order."""

    def __init__(self) -> None:
        super().__init__()
        self.played = Played(policy())
        self.is_shrunk = False

    @rule(queue=st.sampled_from(QUEUES), tasks=st.integers(1, 4), is_heard=st.booleans())
    def submit(self, queue: Queue, tasks: int, is_heard: bool) -> None:
        self.played.submit(queue, tasks, is_heard=is_heard)

    @rule()
    def plan(self) -> None:
        self.played.plan()

    @rule(queue=st.sampled_from(QUEUES), messages=st.integers(1, 4))
    def deliver(self, queue: Queue, messages: int) -> None:
        for _ in range(messages):
            self.played.deliver(queue)

    @rule(queue=st.sampled_from(QUEUES))
    def expire(self, queue: Queue) -> None:
        self.played.expire(queue)

    @precondition(lambda self: self.played.running)
    @rule(data=st.data(), is_put_off=st.booleans())
    def end(self, data: st.DataObject, is_put_off: bool) -> None:
        task = data.draw(st.sampled_from(sorted(self.played.running)))
        (self.played.put_off if is_put_off else self.played.end)(task)

    @rule(queue=st.sampled_from(QUEUES))
    def take_again(self, queue: Queue) -> None:
        """The broker delivers once more what this executor holds."""
        broker = self.played.queues[queue]
        if broker.places and broker.out & self.played.held.keys():
            broker.places -= 1
            self.played.dispatcher.take_again(
                self.played.view(queue), pending=len(broker.queued), now=self.played.now
            )

    @rule()
    def look(self) -> None:
        self.played.look()

    @rule()
    def unpark(self) -> None:
        self.played.unpark()

    @rule(workers=st.integers(0, 3), shared=st.integers(0, 3), concurrent=st.integers(1, 5))
    def resize(self, workers: int, shared: int, concurrent: int) -> None:
        self.is_shrunk = True
        self.played.resize(policy(workers=workers, shared=shared, concurrent=concurrent))

    @invariant()
    def lanes_keep_to_their_limits(self) -> None:
        """As long as the policy has not changed under what runs."""
        for lane in LANES if not self.is_shrunk else ():
            running = sum(queue.lane == lane for queue in self.played.running.values())
            assert running <= self.played.policy.lane(lane).max_concurrent

    @invariant()
    def beliefs_of_this_executor_are_facts(self) -> None:
        for queue, broker in self.played.queues.items():
            view = self.played.view(queue)
            held = [task for task, where in self.played.held.items() if where == queue]
            assert view.mine == len(held)
            assert view.places == broker.places
            assert {task for _, task in view.parked} == set(held) - self.played.running.keys()

    def teardown(self) -> None:
        """Whatever happened: all that was submitted is run, once, and all workers are free."""
        self.played.resize(policy())
        for _ in range(10_000):
            if len(self.played.done) == self.played.count:
                break
            self.played.look()
            self.played.plan()
            for queue in QUEUES:
                while self.played.deliver(queue):
                    pass
                self.played.expire(queue)
            for task in list(self.played.running):
                self.played.end(task)
        assert sorted(self.played.done) == list(range(1, self.played.count + 1))
        for queue in QUEUES:
            self.played.expire(queue)
        assert places_for_all_lanes(self.played) == {1: 4, 2: 2, 3: 2}


TestAnyOrder = AnyOrder.TestCase
TestAnyOrder.settings = settings(max_examples=60, stateful_step_count=40, deadline=None)
