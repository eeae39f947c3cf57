"""Whatever the order of appends, deliveries, crashes and calls: the promises hold."""

from collections import Counter
from itertools import pairwise
from typing import Final, TypeVar

from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent, TaskSignal
from services.executor.interleaving_world import TENANT, ToolService, World
from tasklog import fold, lifecycle, subjects

_T = TypeVar("_T")
_OPEN: Final = (task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_RUNNING)
_WAITING: Final = task_pb2.TASK_STATE_WAITING

# What a model asks for in one message.
_MOVES: Final = st.sampled_from(
    ["look", "put", "send", "send", "pay", "ask_person", "wait", "put+send", "pay+look+ask_person"]
)
_PLANS: Final = st.lists(_MOVES, min_size=1, max_size=3).map(" ".join)
# Mostly things go on; the more often one stands here, the more often it happens.
_HAPPENINGS: Final = st.sampled_from(
    [
        *["append"] * 16,
        *["deliver"] * 6,
        *["answer"] * 4,
        *["crash before", "crash after"],
        *["lose an outcome", "fail a model"],
        *["redrive", "time", "stop", "cancel"],
        *["give up before", "give up after"],
    ]
)
_PICKS: Final = st.integers(0, 60)
# Of the picks: what is cancelled has nothing else happen to it.
_CANCELS: Final = 8
# Far more than any task of a few steps needs.
_MAX_ROUNDS: Final = 400


class _Mesh:
    """Two executors, a coordinator that clients call, and faults."""

    def __init__(self, plans: list[str]) -> None:
        self.world = World()
        for plan in plans:
            self.world.submit(plan)

    def do(self, what: str, pick: int) -> None:
        """Has something happen, to one of those to which it can; `pick` says which."""
        world = self.world
        match what:
            case "append":
                for turn in _picked(world.pending(), pick):
                    world.let(turn)
            case "crash before" | "crash after":
                for turn in _picked(world.pending(), pick):
                    world.crash(turn, is_stored=what == "crash after")
            case "give up before" | "give up after":
                for turn in _picked(world.pending(), pick):
                    if what == "give up after":
                        world.store_unheard(turn.executor)
                    world.give_up(turn)
            case "deliver":
                # Any that nobody acknowledged: for the first time or again, in any order.
                for stored in _picked(list(world.log.queue.values()), pick):
                    world.deliver(stored, world.executors[pick % 2])
            case "stop":
                if pick % 3:
                    world.store_unheard(world.executors[pick % 2])
                world.stop(world.executors[pick % 2])
            case "cancel" if pick < _CANCELS:
                for task_id in _picked(self._in(*_OPEN, _WAITING), pick):
                    self._cancel(task_id, is_heard=bool(pick % 3))
            case "answer":
                for task_id in _picked(self._in(_WAITING), pick):
                    # Most people agree, some refuse, some never answer.
                    self._answer(task_id, {0: False, 1: None}.get(pick % 5, True))
            case "redrive":
                for task_id in _picked(self._in(task_pb2.TASK_STATE_DEAD_LETTERED), pick):
                    event = TaskEvent()
                    event.redriven.SetInParent()
                    world.write(task_id, event)
            case "lose an outcome":
                world.tools.losing = 1
            case "fail a model":
                world.model.failing = 1
            case _:
                self._pass_time()

    def check(self) -> None:
        """What holds at any moment."""
        for task_id, events in self._logs.items():
            self._is_one_task(events)
            self._is_answered_once(events)
            if events[-1].status.state in _OPEN:
                self._is_not_lost(task_id)
        self._effects_are_agreed_to()

    def come_to_an_end(self) -> None:
        """Without further faults every task reaches the one state in which it ends."""
        self.world.tools.losing = self.world.model.failing = 0
        for _ in range(_MAX_ROUNDS):
            for turn in self.world.pending():
                if turn in turn.executor.turns:
                    self.world.let(turn)
            for task_id in self._in(_WAITING):
                self._answer(task_id, True)
            if not self._in(*_OPEN):
                break
            if not self.world.pending():
                self._pass_time()
                for stored in tuple(self.world.log.queue.values()):
                    self.world.deliver(stored, self.world.executors[0])
        assert self._in(*lifecycle.TERMINAL) == list(self._logs)

    @property
    def _logs(self) -> dict[str, list[TaskEvent]]:
        return {
            task_id: [entry.event for entry in entries]
            for task_id, entries in self.world.log.entries.items()
        }

    def _in(self, *states: task_pb2.TaskState) -> list[str]:
        return [
            task_id for task_id, events in self._logs.items() if events[-1].status.state in states
        ]

    def _is_one_task(self, events: list[TaskEvent]) -> None:
        """No gap, no fork, nothing after the end; and usage adds up."""
        assert fold.replay(events) is events[-1]
        total = Usage()
        for event in events:
            lifecycle.add_usage(total, event.usage)
        assert total == events[-1].status.usage

    def _is_answered_once(self, events: list[TaskEvent]) -> None:
        """Each call has one result, whoever made it and however often."""
        answered = [
            event.tool_called.result.call_id for event in events if event.HasField("tool_called")
        ]
        assert len(set(answered)) == len(answered)

    def _is_not_lost(self, task_id: str) -> None:
        """The event that last made it runnable is in the queue: somebody will get it."""
        runnable = [
            entry.stream_sequence
            for entry in self.world.log.entries[task_id]
            if entry.event.WhichOneof("kind") in subjects.RUNNABLE_KINDS
        ]
        assert runnable[-1] in self.world.log.queue

    def _effects_are_agreed_to(self) -> None:
        """An effect happens once, and once more for each time that a person said so."""
        made = Counter[tuple[str, str, str]]()
        for key, call in self.world.tools.effects.items():
            made[key.split("/")[0], call.call_id, call.tool] += 1
        for (task_id, call_id, tool), count in made.items():
            asked, again = self._approvals(task_id, call_id)
            assert count <= 1 + again
            assert asked or not ToolService.TOOLS[tool].requires_approval

    def _approvals(self, task_id: str, call_id: str) -> tuple[int, int]:
        """How often a person agreed to a call, and how often to one more of unknown outcome."""
        asked = again = 0
        for waiting, resumed in pairwise(self._logs[task_id]):
            wait = waiting.waiting.wait
            if wait.call_id == call_id and resumed.resumed.signal.HasField("approval"):
                again += wait.approval.outcome_unknown
                asked += not wait.approval.outcome_unknown
        return asked, again

    def _cancel(self, task_id: str, *, is_heard: bool) -> None:
        status = self._logs[task_id][-1].status
        event = TaskEvent()
        if status.state != task_pb2.TASK_STATE_RUNNING:
            event.cancelled.SetInParent()
        elif status.cancel_requested:
            return
        else:
            event.cancel_requested.SetInParent()
        self.world.write(task_id, event)
        if is_heard:
            for executor in self.world.executors:
                executor.runner.cancel(TENANT, task_id)
            self.world.settle()

    def _answer(self, task_id: str, agree: bool | None) -> None:
        """A person agrees, or refuses; or nobody does anything in time."""
        wait = self._logs[task_id][-1].waiting.wait
        event = TaskEvent()
        event.resumed.SetInParent()
        signal = TaskSignal(sender="ann")
        match wait.WhichOneof("reason"):
            case "approval" if agree:
                signal.approval.SetInParent()
            case "approval":
                signal.rejection.reason = "no"
            case "input":
                signal.input.text = "well"
            case _:
                agree = None
        if agree is None:
            event.resumed.expired = wait.WhichOneof("reason") != "until"
        else:
            event.resumed.signal.CopyFrom(signal)
        self.world.write(task_id, event)

    def _pass_time(self) -> None:
        self.world.loop.run_until_complete(self.world.clock.advance(60))


def _picked(these: list[_T], pick: int) -> list[_T]:
    """One of these, if there are any."""
    return [these[pick % len(these)]] if these else []


@settings(max_examples=50, deadline=None)
@given(
    plans=st.lists(_PLANS, min_size=1, max_size=2),
    happenings=st.lists(st.tuples(_HAPPENINGS, _PICKS), min_size=40, max_size=120),
)
def test_the_promises_hold_in_any_order_of_events(
    plans: list[str], happenings: list[tuple[str, int]]
) -> None:
    """Nothing is lost or done twice, and every task comes to one end."""
    mesh = _Mesh(plans)
    try:
        for what, pick in happenings:
            mesh.do(what, pick)
            mesh.check()
        mesh.come_to_an_end()
        mesh.check()
    finally:
        mesh.world.close()
