"""What counts as an attempt, and as a death of an executor."""

import pytest

from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from meshkit.errors import ProviderFailed, ShuttingDown, to_status
from services.executor import attempts


def _events(kinds: str) -> list[TaskEvent]:
    """Events of these kinds; `handed_back` is a retry because of a stop."""
    events: list[TaskEvent] = []
    for kind in kinds.split():
        event = TaskEvent()
        if kind == "handed_back":
            event.retried.error.CopyFrom(to_status(ShuttingDown("The executor was told to stop.")))
        elif kind == "retried":
            event.retried.error.CopyFrom(to_status(ProviderFailed("The provider answered 529.")))
        else:
            getattr(event, kind).SetInParent()
        events.append(event)
    return events


@pytest.mark.parametrize(
    ("kinds", "counted"),
    [
        ("submitted", 0),
        ("submitted started", 1),
        ("submitted started retried started", 2),
        ("submitted started started", 2),
        # Nobody's failure.
        ("submitted started handed_back started handed_back started", 1),
        # None at all.
        ("submitted started waiting resumed started waiting resumed started", 1),
        ("submitted started retried started waiting resumed started", 2),
        # A redrive begins anew.
        ("submitted started retried started dead_lettered redriven started", 1),
    ],
)
def test_attempts_count_since_the_task_was_submitted_or_redriven(kinds: str, counted: int) -> None:
    """Those that a stop or a wait ended do not."""
    assert attempts.counted(_events(kinds)) == counted


@pytest.mark.parametrize(
    ("kinds", "deaths"),
    [
        ("submitted", 0),
        ("submitted started started", 2),
        # An intent is no step: the tool it announces may be what kills.
        ("submitted started model_called tool_intended started tool_intended started", 2),
        ("submitted started started cancel_requested", 2),
        ("submitted started degraded started degraded", 2),
        # What failed or was handed back is no death, and undoes none.
        ("submitted started retried started handed_back", 0),
        ("submitted started retried started started", 2),
        ("submitted started started retried started", 2),
        ("submitted started started handed_back started", 2),
        # A step was finished, an attempt ended in good order, or somebody decided.
        ("submitted started model_called", 0),
        ("submitted started started model_called started", 1),
        ("submitted started retried started", 1),
        ("submitted started waiting resumed started", 1),
        ("submitted started started dead_lettered redriven started", 1),
    ],
)
def test_deaths_count_since_the_last_step(kinds: str, deaths: int) -> None:
    """An executor that took the task and was not heard of again is taken for dead."""
    assert attempts.deaths_in_this_step(_events(kinds)) == deaths
