"""Nothing that was accepted is lost: each open task has a message that somebody will act on."""

from collections.abc import Callable, Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from audit.entry import Entry
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.queue_standing import ConsumerKey, Standing
from audit.track import Track
from tasklog.subjects import RUNNABLE_KINDS, durable_of

CONTROL: Final = "control"
_RUNNABLE: Final = frozenset({task_pb2.TASK_STATE_QUEUED, task_pb2.TASK_STATE_RUNNING})


@dataclass(frozen=True, slots=True)
class Suspect:
    """An open task whose message is not simply waiting to be handed out."""

    task: TaskKey
    # Of the task's last event, when it was seen.
    last_sequence: int
    # Of the message on which somebody must act.
    message_sequence: int
    # The consumer that hands it out.
    consumer: ConsumerKey
    waits: bool


def suspects(
    open_tasks: Mapping[TaskKey, Track],
    standings: Mapping[ConsumerKey, Standing],
    stream_of: Callable[[str], str],
) -> Iterator[Suspect]:
    """Open tasks that have to be looked at again: their message was handed out, or is gone.

    `standings` must be newer than `open_tasks`. Messages that nobody has pulled
    yet are where they should be; there may be a million of them. `stream_of` tells
    where the tasks of a tenant are.
    """
    for task, track in open_tasks.items():
        if track.state in _RUNNABLE and track.runnable_sequence:
            message, durable = track.runnable_sequence, durable_of(task.tenant, track.queue)
        elif track.state == task_pb2.TASK_STATE_WAITING and track.timed_wait:
            message, durable = track.stream_sequence, CONTROL
        else:
            continue
        consumer = ConsumerKey(stream_of(task.tenant), durable)
        standing = standings.get(consumer)
        if standing is None or message <= standing.delivered:
            yield Suspect(
                task,
                track.stream_sequence,
                message,
                consumer,
                waits=track.state == task_pb2.TASK_STATE_WAITING,
            )


def still_open(suspect: Suspect, later: Sequence[Entry]) -> bool:
    """Whether the task still needs its message, after what happened `later`.

    Whoever acts on a message acknowledges it after recording what came of it. So
    if the message was acknowledged before `later` was read, this tells whether
    that was right.
    """
    if not later:
        return True
    state = later[-1].event.status.state
    if suspect.waits:
        return False
    return state in _RUNNABLE and not any(entry.kind in RUNNABLE_KINDS for entry in later)


def judge(still: Iterable[Suspect], standings: Mapping[ConsumerKey, Standing]) -> Iterator[Finding]:
    """What is lost among the suspects that are `still` open.

    The broker does not say which messages are unacknowledged, only how many there
    are beyond the point up to which all are. So a message before that point is
    lost for certain; of those after it, as many as are too many.
    """
    between: dict[ConsumerKey, list[Suspect]] = {}
    for suspect in still:
        standing, durable = standings.get(suspect.consumer), suspect.consumer.durable
        if standing is None:
            yield _finding(suspect, f"There is no consumer {durable} that hands it out")
        elif suspect.message_sequence <= standing.acknowledged:
            yield _finding(suspect, f"It was acknowledged in {durable}")
        else:
            between.setdefault(suspect.consumer, []).append(suspect)
    for consumer, those in between.items():
        held, durable = standings[consumer].unacknowledged, consumer.durable
        if len(those) > held:
            what = f"{durable} has {held} unacknowledged messages for {len(those)} such tasks"
            yield from (_finding(each, what) for each in those)


def _finding(suspect: Suspect, why: str) -> Finding:
    what = "waits, but nobody ends its wait" if suspect.waits else "is open, but nobody runs it"
    return finding(
        Invariant.LOST, suspect.task, f"The task {what}. {why}.", suspect.message_sequence
    )
