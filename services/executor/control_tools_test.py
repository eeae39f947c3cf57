"""What a model may say to the tools that make its task wait."""

import contextlib
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from google.protobuf import json_format
from hypothesis import given
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.coordinator.v1.task_event_pb2 import TaskStatus, TaskWaiting
from agentmesh.coordinator.v1.task_pb2 import Task
from meshkit.errors import InvalidToolArguments
from services.executor import control_tools

_NOW = datetime(2026, 1, 2, 3, 4, 5, tzinfo=UTC)
_LIMIT = timedelta(hours=1)


def _parent(*, depth: int = 0, budget_micros: int = 0) -> Task:
    return Task(
        name="tenants/acme/tasks/t1",
        tenant="acme",
        session="s1",
        labels={"team": "a"},
        depth=depth,
        budget_micros=budget_micros,
    )


def _status(*, cost_micros: int = 0) -> TaskStatus:
    status = TaskStatus(lane=tier_pb2.LANE_STANDARD, priority=7)
    status.usage.cost_micros = cost_micros
    status.deadline.FromDatetime(_NOW + timedelta(seconds=90))
    return status


def _call(tool: str, arguments: dict[str, Any]) -> ToolCall:
    call = ToolCall(call_id="c1", tool=tool)
    json_format.ParseDict(arguments, call.arguments)
    return call


def _waiting(
    tool: str,
    arguments: dict[str, Any],
    *,
    parent: Task | None = None,
    status: TaskStatus | None = None,
    sequence: int = 5,
) -> TaskWaiting:
    return control_tools.waiting(
        _call(tool, arguments),
        parent or _parent(),
        status or _status(),
        sequence=sequence,
        now=_NOW,
        wait_limit=_LIMIT,
    )


def test_a_question_waits_for_a_person_until_the_lane_s_limit() -> None:
    """The wait names the call, the question and its end."""
    wait = _waiting("ask_person", {"question": "Which one?"}).wait
    assert (wait.call_id, wait.input.question) == ("c1", "Which one?")
    assert wait.expire_time.ToDatetime(tzinfo=UTC) == _NOW + _LIMIT


@pytest.mark.parametrize(
    "arguments", [{"seconds": 90}, {"until": "2026-01-02T03:05:35Z"}], ids=["seconds", "until"]
)
def test_a_wait_has_an_end_that_is_a_point_in_time(arguments: dict[str, Any]) -> None:
    """Seconds count from now."""
    wait = _waiting("wait", arguments).wait
    assert wait.until.ToDatetime(tzinfo=UTC) == _NOW + timedelta(seconds=90)


_NO_LISTS: list[dict[str, Any]] = [
    {},
    {"tasks": []},
    {"tasks": "x"},
    {"tasks": [{"text": "x"}] * 101},
    {"tasks": [{"text": "x"}] * 1_000},
]
_WRONG: list[tuple[str, dict[str, Any], str]] = [
    ("ask_person", {}, "call.arguments.question: is required"),
    (
        "ask_person",
        {"question": " "},
        "call.arguments.question: must be text of 1 to 10,000 characters",
    ),
    (
        "ask_person",
        {"question": "x" * 10_001},
        "call.arguments.question: must be text of 1 to 10,000 characters",
    ),
    (
        "ask_person",
        {"question": "Which?", "whom": "Ann"},
        "call.arguments.whom: is not known; known are question",
    ),
    ("wait", {}, "call.arguments: must have exactly one of seconds and until"),
    (
        "wait",
        {"seconds": 1, "until": "2026-01-02T03:05:35Z"},
        "call.arguments: must have exactly one of seconds and until",
    ),
    *(
        (
            "wait",
            {"seconds": seconds},
            "call.arguments.seconds: must be a number over 0, at most 3600 s from now",
        )
        for seconds in (0, -1, 3601, "soon", True, None)
    ),
    (
        "wait",
        {"until": "tomorrow"},
        "call.arguments.until: must be a time such as 2026-01-31T12:00:00Z",
    ),
    *(
        (
            "wait",
            {"until": until},
            "call.arguments.until: must be after now (2026-01-02T03:04:05Z),"
            " at most 3600 s from now",
        )
        for until in ("2026-01-02T03:04:05Z", "2026-01-02T04:04:06Z")
    ),
    *(
        ("delegate", arguments, "call.arguments.tasks: must be a list of 1 to 100 tasks")
        for arguments in _NO_LISTS
    ),
    (
        "delegate",
        {"tasks": [{"text": "a"}, "b", {"agent": 1, "lane": "fast", "when": 1}]},
        "call.arguments.tasks[1]: must be an object;"
        " call.arguments.tasks[2].when: is not known; known are text, agent, lane;"
        " call.arguments.tasks[2].text: is required;"
        " call.arguments.tasks[2].agent: must be text of 1 to 200 characters;"
        " call.arguments.tasks[2].lane: must be one of batch, interactive, standard",
    ),
]


@pytest.mark.parametrize(("tool", "arguments", "told"), _WRONG)
def test_wrong_arguments_are_told_field_by_field(
    tool: str, arguments: dict[str, Any], told: str
) -> None:
    """The model reads each field and what would be right."""
    with pytest.raises(InvalidToolArguments) as caught:
        _waiting(tool, arguments)
    assert str(caught.value) == f"The arguments do not fit the tool {tool}: {told}"


def test_children_inherit_what_is_the_parent_s() -> None:
    """Tenant, lane, priority, labels and the time that is left; not the session."""
    parts = {"tasks": [{"text": "a"}, {"text": "b", "agent": "expert@2", "lane": "batch"}]}
    asked = _waiting("delegate", parts)
    first, second = asked.children
    assert [child.name for child in asked.children] == list(asked.wait.children.tasks)
    assert (first.input.text, first.agent, first.lane) == ("a", "", tier_pb2.LANE_STANDARD)
    assert (second.input.text, second.agent) == ("b", "expert@2")
    assert second.lane == tier_pb2.LANE_BATCH
    for child in (first, second):
        assert (child.tenant, child.priority, child.session) == ("acme", 7, "")
        assert dict(child.labels) == {"team": "a"}
        assert (child.parent_task, child.depth) == ("tenants/acme/tasks/t1", 1)
        assert (child.time_limit.seconds, child.budget_micros) == (90, 0)


def test_children_have_the_same_names_whenever_they_are_asked_for() -> None:
    """Names follow from the parent, the event and the place, and differ in each."""
    parts = {"tasks": [{"text": "a"}, {"text": "b"}]}
    once = _waiting("delegate", parts).wait.children.tasks
    assert list(_waiting("delegate", parts).wait.children.tasks) == list(once)
    later = _waiting("delegate", parts, sequence=6).wait.children.tasks
    assert len({*once, *later}) == 4


@given(
    budget_micros=st.integers(1, 10**12),
    spent=st.floats(0, 1.5),
    count=st.integers(1, 100),
)
def test_children_never_get_more_than_is_left_of_the_budget(
    budget_micros: int, spent: float, count: int
) -> None:
    """They share it equally; where that leaves nothing for one, nothing is handed on."""
    cost_micros = int(budget_micros * spent)
    parent, status = _parent(budget_micros=budget_micros), _status(cost_micros=cost_micros)
    parts = {"tasks": [{"text": "x"}] * count}
    if budget_micros - cost_micros < count:
        with pytest.raises(InvalidToolArguments, match="the task's budget is spent"):
            _waiting("delegate", parts, parent=parent, status=status)
        return
    shares = {
        child.budget_micros
        for child in _waiting("delegate", parts, parent=parent, status=status).children
    }
    assert len(shares) == 1
    assert 0 < count * shares.pop() <= budget_micros - cost_micros


def test_children_of_children_come_to_an_end() -> None:
    """A task with five above it does its work itself."""
    assert _waiting("delegate", {"tasks": [{"text": "x"}]}, parent=_parent(depth=4)).children
    with pytest.raises(InvalidToolArguments) as caught:
        _waiting("delegate", {"tasks": [{"text": "x"}]}, parent=_parent(depth=5))
    assert str(caught.value) == (
        "The arguments do not fit the tool delegate: call.arguments.tasks: must not be handed on:"
        " 5 tasks stand above this one already. Do the work here"
    )


def test_what_is_handed_on_fits_into_an_event() -> None:
    """The limit counts bytes, and says how many there are."""
    with pytest.raises(InvalidToolArguments, match=r"must not exceed 65,536 bytes together"):
        _waiting("delegate", {"tasks": [{"text": "x" * 40_000}] * 2})


_JSON = st.recursive(
    st.none() | st.booleans() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=5), inner, max_size=3)
    ),
    max_leaves=5,
)


@given(
    tool=st.sampled_from(sorted(control_tools.TOOLS)),
    arguments=st.dictionaries(
        st.sampled_from(["question", "seconds", "until", "tasks", "x"]),
        _JSON | st.lists(st.fixed_dictionaries({"text": _JSON, "lane": _JSON}), max_size=3),
    ),
)
def test_whatever_a_model_says_it_waits_or_reads_what_is_wrong(
    tool: str, arguments: dict[str, Any]
) -> None:
    """No arguments lead to anything else."""
    with contextlib.suppress(InvalidToolArguments):
        assert _waiting(tool, arguments).wait.WhichOneof("reason")
