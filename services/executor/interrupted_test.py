"""An attempt that is stopped, or left alone by the broker, while an append is on its way."""

from collections.abc import Iterator
from datetime import timedelta

import pytest

from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshtest.eventually import eventually
from services.executor.interleaving_world import TENANT, World


@pytest.fixture
def world() -> Iterator[World]:
    """Executors whose appends are stored when the test says so."""
    world = World()
    yield world
    world.close()


def _begin(world: World, kind: str, *, limit: timedelta = timedelta(days=1)) -> None:
    """A task whose event `kind` is stored, and whose executor has not heard of that yet."""
    world.submit("look", limit=limit)
    (message,) = world.log.queue.values()
    world.deliver(message, world.executors[0])
    while world.pending()[0].event.WhichOneof("kind") != kind:
        world.let(world.pending()[0])
    world.store_unheard(world.executors[0])


def _let_all(world: World) -> list[str]:
    """Has the rest happen; the kinds of all events."""
    while world.pending():
        world.let(world.pending()[0])
    return [entry.event.WhichOneof("kind") or "" for entry in world.log.entries["t1"]]


def _state(world: World) -> task_pb2.TaskState:
    return world.log.entries["t1"][-1].event.status.state


def test_a_cancel_that_meets_an_append_ends_the_task(world: World) -> None:
    """At once, in the same attempt; the step before it stays counted."""
    _begin(world, "model_called")
    event = TaskEvent()
    event.cancel_requested.reason = "enough"
    world.write("t1", event)
    world.executors[0].runner.cancel(TENANT, "t1")
    world.settle()
    assert _let_all(world) == [
        "submitted",
        "started",
        "model_called",
        "cancel_requested",
        "cancelled",
    ]
    assert _state(world) == task_pb2.TASK_STATE_CANCELLED
    assert world.log.queue == {}


@pytest.mark.parametrize("kind", ["model_called", "tool_called"])
def test_a_time_limit_that_meets_an_append_ends_the_task(world: World, kind: str) -> None:
    """With what the step that was on its way has found."""
    _begin(world, kind, limit=timedelta(seconds=0.5))
    on_its_way = world.pending()[0]
    world.loop.run_until_complete(eventually(lambda: on_its_way not in world.pending()))
    world.settle()
    found = _let_all(world)
    assert (found[-2:], found.count("started")) == ([kind, "completed"], 1)
    assert _state(world) == task_pb2.TASK_STATE_PARTIAL
    last = world.log.entries["t1"][-1].event
    assert last.completed.output.text == ("ok" if kind == "tool_called" else "")
    assert world.log.queue == {}


def test_a_time_limit_that_meets_the_end_leaves_it_as_it_is(world: World) -> None:
    """The answer was stored in time; the message is done with."""
    _begin(world, "completed", limit=timedelta(seconds=0.5))
    on_its_way = world.pending()[0]
    world.loop.run_until_complete(eventually(lambda: on_its_way not in world.pending()))
    world.settle()
    assert _let_all(world).count("completed") == 1
    assert _state(world) == task_pb2.TASK_STATE_SUCCEEDED
    assert world.log.queue == {}


def test_a_stop_that_meets_an_append_gives_the_task_back(world: World) -> None:
    """It is runnable at once, after the step that was on its way."""
    _begin(world, "model_called")
    world.stop(world.executors[0])
    assert _let_all(world) == ["submitted", "started", "model_called", "retried"]
    assert [each.sequence for each in world.log.queue.values()] == [4]


@pytest.mark.parametrize("is_stored", [False, True])
def test_a_broker_that_is_away_when_attempts_end_is_no_executors_death(
    world: World, *, is_stored: bool
) -> None:
    """However often, and for however long: the end is recorded when it is back, and once."""
    world.submit("look")
    for _ in range(2):
        world.model.failing = 1
        (message,) = world.log.queue.values()
        world.deliver(message, world.executors[0])
        while world.pending()[0].event.WhichOneof("kind") != "retried":
            world.let(world.pending()[0])
        if is_stored:
            world.store_unheard(world.executors[0])
        for _ in range(3):
            (end,) = world.pending()
            world.give_up(end)
            _let_pass(world, seconds=2)
        _let_all(world)
        _let_pass(world, seconds=60)
    (message,) = world.log.queue.values()
    world.deliver(message, world.executors[0])
    assert _let_all(world) == [
        *("submitted", "started", "retried", "started", "retried"),
        *("started", "model_called", "tool_called", "completed"),
    ]
    assert _state(world) == task_pb2.TASK_STATE_SUCCEEDED
    assert world.log.queue == {}


def _let_pass(world: World, *, seconds: float) -> None:
    world.loop.run_until_complete(world.clock.advance(seconds))
    world.settle()
