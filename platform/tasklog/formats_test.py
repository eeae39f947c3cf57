"""Events of every version before this one are read as those of today, and later ones refused."""

import pytest
from google.protobuf.message import DecodeError, Message
from hypothesis import given, settings
from hypothesis import strategies as st

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from audit.random_log import logs
from meshkit.errors import NewerFormat
from tasklog import fold
from tasklog.formats import EVENTS, EventFormats

# What each format brought. Who adds a kind of event or a state adds a format, too: those
# who do not know it would take the event for a damaged one.
_KINDS = {
    1: "submitted started model_called tool_intended tool_called waiting resumed retried degraded"
    " cancel_requested completed failed cancelled dead_lettered redriven discarded expired"
}
# Values by which readers decide what to do: of one that is not known they would do the wrong thing.
_VALUES = {
    "TaskState": {
        1: "UNSPECIFIED QUEUED RUNNING WAITING SUCCEEDED PARTIAL FAILED CANCELLED DEAD_LETTERED"
    },
    "AgentPattern": {1: "UNSPECIFIED SINGLE_SHOT REACT PLAN_AND_EXECUTE REFLECTION SUPERVISOR"},
    "ModelPhase": {1: "UNSPECIFIED PLAN STEP ANSWER CRITIQUE REVISION DELEGATION REVIEW"},
    "Lane": {1: "UNSPECIFIED INTERACTIVE STANDARD BATCH"},
}
_ENUMS = {
    "TaskState": (task_pb2.TaskState, "TASK_STATE_"),
    "AgentPattern": (task_event_pb2.AgentPattern, "AGENT_PATTERN_"),
    "ModelPhase": (task_event_pb2.ModelPhase, "MODEL_PHASE_"),
    "Lane": (tier_pb2.Lane, "LANE_"),
}
# A field that no version of today knows: number 1,000, a text.
_UNKNOWN = b"\xc2\x3e\x05later"


def _add_tier(event: TaskEvent) -> None:
    if event.HasField("model_called") and not event.model_called.tier:
        event.model_called.tier = tier_pb2.MODEL_TIER_BALANCED


def _add_duration(event: TaskEvent) -> None:
    if event.HasField("model_called") and not event.model_called.HasField("duration"):
        # It needs what the format before it brought.
        event.model_called.duration.seconds = event.model_called.tier


def _add_writer(event: TaskEvent) -> None:
    event.writer = event.writer or "unknown"


_LATER = (_add_tier, _add_duration, _add_writer)
# What there is, and what there may be.
_CHAINS = [EVENTS, *(EventFormats(_LATER[:count], writes=count + 1) for count in (1, 2, 3))]


def _fields(event: TaskEvent) -> set[str]:
    """The paths of all fields that are set."""

    def of(message: Message, path: str) -> set[str]:
        found: set[str] = set()
        for field, value in message.ListFields():
            inside = f"{path}.{field.name}"
            found.add(inside)
            if field.message_type and not field.is_repeated:
                found |= of(value, inside)
        return found

    return of(event, "")


@given(log=logs(), formats=st.sampled_from(_CHAINS), data=st.data())
@settings(deadline=None)
def test_a_log_of_any_version_reads_the_same_through_all_later_ones(
    log: list[TaskEvent], formats: EventFormats, data: st.DataObject
) -> None:
    """Whichever of them rewrote it in between; nothing is taken away, and the task is the same."""
    between = EventFormats(
        _LATER[: data.draw(st.integers(0, formats.reads - 1), label="between")], writes=1
    )
    read: list[TaskEvent] = []
    for event in log:
        # A version writes all that its format has.
        stored = TaskEvent()
        stored.CopyFrom(event)
        number = data.draw(st.integers(1, between.reads), label="format")
        for upcaster in _LATER[: number - 1]:
            upcaster(stored)
        # The first version wrote no number.
        stored.format = 0 if number == 1 else number
        payload = stored.SerializeToString()
        direct = formats.decode(payload)
        rewritten = formats.decode(between.decode(payload).SerializeToString())
        assert direct == rewritten == formats.upcast(rewritten)
        assert direct.format == stored.format
        assert _fields(stored) <= _fields(direct)
        read.append(direct)
    last, expected = fold.replay(read), fold.replay(log)
    assert fold.task_of(read[0], last) == fold.task_of(log[0], expected)


def test_an_event_without_a_format_is_of_the_first() -> None:
    """All steps are taken."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=2)
    event.model_called.step = 1
    read = EventFormats(_LATER, writes=1).decode(event.SerializeToString())
    assert read.model_called.tier == tier_pb2.MODEL_TIER_BALANCED
    assert read.model_called.duration.seconds == tier_pb2.MODEL_TIER_BALANCED
    assert read.writer == "unknown"


def test_what_a_later_version_wrote_is_refused_and_says_so() -> None:
    """With the format, and what is known here; another instance may be asked."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=3, format=7)
    event.started.attempt = 1
    with pytest.raises(NewerFormat) as caught:
        EventFormats(_LATER, writes=3).decode(event.SerializeToString())
    assert caught.value.message == (
        "Event 3 of tenants/acme/tasks/t1 is of format 7; this version of Agentmesh reads"
        " formats up to 4. A later version can read it."
    )
    assert caught.value.metadata == {"format": "7", "reads": "4"}
    assert caught.value.retry_after_seconds == 1.0


def test_a_kind_that_is_not_known_is_of_a_later_version() -> None:
    """Also where its writer forgot to say so: it is no damage."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=3)
    with pytest.raises(NewerFormat, match="is of a later kind; this version"):
        EVENTS.decode(event.SerializeToString() + _UNKNOWN)


@pytest.mark.parametrize("payload", [b"", _UNKNOWN, TaskEvent(sequence=3).SerializeToString()])
def test_what_is_no_event_is_not_of_a_later_version(payload: bytes) -> None:
    """Somebody has to look at it; no version will read it."""
    assert EVENTS.decode(payload).WhichOneof("kind") is None


def test_bytes_that_are_no_message_are_told_apart() -> None:
    """As ever."""
    with pytest.raises(DecodeError):
        EVENTS.decode(b"\xff")


def test_fields_of_a_later_version_survive_a_rewrite() -> None:
    """At the top and inside: a snapshot that this version writes loses nothing of them."""
    event = TaskEvent(task="tenants/acme/tasks/t1", sequence=2)
    event.MergeFromString(b"\xa2\x01\x08" + _UNKNOWN)  # completed, with a field inside
    payload = event.SerializeToString() + _UNKNOWN
    copy = TaskEvent()
    copy.CopyFrom(EVENTS.decode(payload))
    assert copy.SerializeToString().count(_UNKNOWN) == 2


@pytest.mark.parametrize("writes", [0, 3])
def test_no_format_is_written_that_is_not_read(writes: int) -> None:
    """A version can read what it wrote."""
    with pytest.raises(ValueError, match=f"format {writes} cannot be written"):
        EventFormats(_LATER[:1], writes=writes)


def _known(table: dict[int, str]) -> list[str]:
    return [each for number in range(1, EVENTS.reads + 1) for each in table.get(number, "").split()]


def test_a_new_kind_comes_with_a_new_format() -> None:
    """Add it to the table above under the new format's number, and an upcaster to `EVENTS`."""
    (kind,) = TaskEvent.DESCRIPTOR.oneofs
    assert [each.name for each in kind.fields] == _known(_KINDS)


@pytest.mark.parametrize("name", _VALUES)
def test_a_new_value_comes_with_a_new_format(name: str) -> None:
    """As a kind does."""
    enum, prefix = _ENUMS[name]
    values = [each.name.removeprefix(prefix) for each in enum.DESCRIPTOR.values]
    assert values == _known(_VALUES[name])
