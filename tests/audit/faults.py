"""The faults that an audit must find, each planted alone."""

from typing import Final

from agentmesh.coordinator.v1 import task_pb2
from audit.finding import Invariant
from tests.audit.planted import (
    Fault,
    altered,
    altered_all,
    at_end,
    charged,
    drop_blob,
    each,
    ended_again,
    nowhere,
    one,
    removed,
    replaced,
    reserve,
    set_parent,
    spend,
    task_name,
    uncharged,
)
from tests.audit.real_mesh import (
    APPROVED,
    CANCELLED,
    CHILD,
    LARGE,
    PARENT,
    PLAIN,
    QUEUED,
    TAKEN_OVER,
    TENANT,
    WAITING,
)

P0, P1 = f"{PLAIN}-0", f"{PLAIN}-1"
_QUEUE: Final = f"queue-standard-0-{TENANT}"
_OTHER: Final = "other"

FAULTS: Final = (
    # replay
    Fault(
        "an event is missing",
        Invariant.REPLAY,
        one(P0, "started", "tool_intended"),
        change=removed(P0, "model_called"),
    ),
    Fault(
        "the submission is missing",
        Invariant.REPLAY,
        one(P0, "started"),
        change=removed(P0, "submitted"),
    ),
    Fault(
        "a message is no event",
        Invariant.REPLAY,
        lambda log: [
            (log.at(P0, "tool_called"),),
            (log.at(P0, "tool_intended"), log.at(P0, "completed")),
        ],
        change=replaced(P0, "tool_called", payload=b"\xff\xff"),
    ),
    Fault(
        "an event counts another attempt",
        Invariant.REPLAY,
        each(P0, "tool_called", "completed"),
        change=altered(P0, "tool_called", lambda event: setattr(event.status, "attempt", 7)),
    ),
    Fault(
        "a deadline moved",
        Invariant.REPLAY,
        each(P0, "completed"),
        change=altered(P0, "completed", lambda event: setattr(event.status.deadline, "seconds", 7)),
    ),
    Fault(
        "a step has another number",
        Invariant.REPLAY,
        each(P0, "tool_called"),
        change=altered(P0, "tool_called", lambda event: setattr(event.tool_called, "step", 7)),
    ),
    # fork
    Fault(
        "a step stands twice",
        Invariant.FORK,
        at_end,
        plant=lambda copy: copy.add(copy.log.message(P0, "model_called")),
    ),
    Fault(
        "two events follow the same one",
        Invariant.FORK,
        lambda log: [(log.at(WAITING, "waiting"), log.end + 1)],
        plant=lambda copy: copy.add(copy.log.message(WAITING, "waiting")),
    ),
    # end
    Fault(
        "a task ends twice",
        Invariant.END,
        at_end,
        plant=lambda copy: copy.add(
            copy.log.message(P0, "completed"),
            payload=ended_again(copy.log.message(P0, "completed"), "completed"),
        ),
    ),
    Fault(
        "a task that has ended is cancelled",
        Invariant.END,
        at_end,
        plant=lambda copy: copy.add(
            copy.log.message(P0, "completed"),
            payload=ended_again(copy.log.message(P0, "completed"), "cancelled"),
        ),
    ),
    # lost
    Fault(
        "a queued task was acknowledged",
        Invariant.LOST,
        each(QUEUED, "submitted"),
        acknowledged=[_QUEUE],
    ),
    Fault(
        "a queue is gone",
        Invariant.LOST,
        each(QUEUED, "submitted"),
        gone=[_QUEUE],
    ),
    Fault(
        "a wait was acknowledged",
        Invariant.LOST,
        each(WAITING, "waiting"),
        acknowledged=["control"],
    ),
    Fault(
        "a submission stands where nobody looks",
        Invariant.LOST,
        each(QUEUED, "submitted"),
        change=replaced(QUEUED, "submitted", subject=f"task.{TENANT}.{QUEUED}.log"),
    ),
    # fencing
    Fault(
        "an executor that lost the task wrote a step",
        Invariant.FENCING,
        each(P0, "tool_called"),
        change=altered(P0, "tool_called", lambda event: setattr(event, "writer", "executor/old")),
    ),
    # charge
    Fault(
        "a charge is missing",
        Invariant.CHARGE,
        each(P0, "completed"),
        settled=uncharged(P0, 3, 2),
    ),
    Fault(
        "a charge has another cost",
        Invariant.CHARGE,
        each(P0, "completed"),
        settled=charged(P0, 3, 2, 1),
    ),
    Fault(
        "an attempt that never was is charged",
        Invariant.CHARGE,
        each(P0, "completed"),
        settled=charged(P0, 3, 4, 5),
    ),
    Fault(
        "a recorded step is charged to a later attempt as well",
        Invariant.CHARGE,
        lambda log: [(log.at(TAKEN_OVER, "started", 1),)],
        settled=charged(TAKEN_OVER, 1, 5, 5),
    ),
    Fault(
        "a step that never was is charged",
        Invariant.CHARGE,
        each(P0, "started"),
        settled=charged(P0, 9, 2, 5),
    ),
    Fault(
        "a task that never was is charged",
        Invariant.CHARGE,
        nowhere,
        settled=charged("t-0", 1, 2, 5),
    ),
    # spend
    Fault(
        "a settlement was counted twice",
        Invariant.SPEND,
        nowhere,
        plant=lambda copy: copy.count("spent", 1, "month"),
    ),
    Fault(
        "a settlement was not counted",
        Invariant.SPEND,
        nowhere,
        plant=lambda copy: copy.count("spent", -1, "month"),
    ),
    Fault(
        "something is reserved for nobody",
        Invariant.SPEND,
        nowhere,
        plant=lambda copy: copy.count("reserved", 1, "month"),
    ),
    Fault(
        "a reservation outlives its time",
        Invariant.SPEND,
        nowhere,
        plant=lambda copy: reserve(copy, "t1/1/2", seconds=-90),
    ),
    # effect
    Fault(
        "a call has no record",
        Invariant.EFFECT,
        each(P0, "tool_called"),
        plant=lambda copy: copy.redis.delete(copy.call(P0, "1/call-1")),
    ),
    Fault(
        "a call is recorded twice",
        Invariant.EFFECT,
        lambda log: [(log.at(PARENT, "tool_called", 1),)],
        change=altered(
            PARENT,
            "tool_called",
            lambda event: setattr(event.tool_called, "idempotency_key", f"{PARENT}/1/call-0"),
            nth=1,
        ),
    ),
    Fault(
        "a call was made that the task does not know of",
        Invariant.EFFECT,
        each(P0, "model_called"),
        plant=lambda copy: copy.redis.hset(copy.call(P0, "1/call-2"), "state", "finished"),
    ),
    # tenant
    Fault(
        "an event is about another tenant's task",
        Invariant.TENANT,
        each(P0, "completed"),
        change=altered(
            P0, "completed", lambda event: setattr(event, "task", task_name("t", _OTHER))
        ),
    ),
    Fault(
        "an event stands in another tenant's log",
        Invariant.TENANT,
        at_end,
        plant=lambda copy: copy.add(
            copy.log.message(P0, "model_called"), subject=f"task.{_OTHER}.{copy.log.ids[P0]}.log"
        ),
    ),
    Fault(
        "a parent is another tenant's",
        Invariant.TENANT,
        each(CHILD, "submitted"),
        change=altered_all(CHILD, lambda event: set_parent(event, task_name(PARENT, _OTHER), 1)),
    ),
    Fault(
        "another tenant is charged",
        Invariant.TENANT,
        nowhere,
        settled=charged(P0, 1, 2, 5, tenant=_OTHER),
    ),
    Fault(
        "another tenant has the record of a call",
        Invariant.TENANT,
        nowhere,
        plant=lambda copy: copy.redis.hset(copy.call(P0, "1/call-1", _OTHER), "state", "finished"),
    ),
    # content
    Fault(
        "large content is gone",
        Invariant.CONTENT,
        each(LARGE, "submitted"),
        plant=lambda copy: drop_blob(copy, "M"),
    ),
    Fault(
        "large content is damaged",
        Invariant.CONTENT,
        each(LARGE, "submitted"),
        plant=lambda copy: drop_blob(copy, "C"),
        read_blobs=True,
    ),
    Fault(
        "large content stands in the log",
        Invariant.CONTENT,
        each(P0, "tool_called"),
        change=altered(
            P0, "tool_called", lambda event: setattr(event.tool_called.result, "text", "x" * 70_000)
        ),
    ),
    # children
    Fault(
        "a parent read another end of its child",
        Invariant.CHILDREN,
        lambda log: [(log.at(PARENT, "resumed"), log.at(CHILD, "completed"))],
        change=altered(
            PARENT,
            "resumed",
            lambda event: setattr(event.resumed.children[0], "state", task_pb2.TASK_STATE_FAILED),
        ),
    ),
    Fault(
        "a parent counts what its child did not use",
        Invariant.CHILDREN,
        lambda log: [
            (log.at(PARENT, "resumed"),),
            (log.at(PARENT, "resumed"), log.at(CHILD, "completed")),
        ],
        change=altered(PARENT, "resumed", lambda event: spend(event.resumed.children[0].usage)),
    ),
    Fault(
        "a parent read that its child was refused",
        Invariant.CHILDREN,
        lambda log: [(log.at(PARENT, "resumed"), log.at(CHILD, "completed"))],
        change=altered(
            PARENT, "resumed", lambda event: event.resumed.children[0].ClearField("task")
        ),
    ),
    Fault(
        "a child has another depth",
        Invariant.CHILDREN,
        each(CHILD, "submitted"),
        change=altered(CHILD, "submitted", lambda event: setattr(event.submitted.task, "depth", 3)),
    ),
    Fault(
        "a parent never was",
        Invariant.CHILDREN,
        each(CHILD, "submitted"),
        change=altered_all(CHILD, lambda event: set_parent(event, task_name("nobody"), 1)),
    ),
    Fault(
        "two tasks are each other's parents",
        Invariant.CHILDREN,
        lambda log: [(log.at(PARENT, "submitted"),), (log.at(CHILD, "submitted"),)],
        change=altered_all(PARENT, lambda event: set_parent(event, task_name(CHILD), 2)),
    ),
    Fault(
        "a child outlives its parent's cancel",
        Invariant.CHILDREN,
        lambda log: [(log.at(CANCELLED, "cancelled"), log.at(QUEUED, "submitted"))],
        change=lambda log: altered(
            QUEUED,
            "submitted",
            lambda event: set_parent(event, task_name(log.ids[CANCELLED]), 1),
        )(log),
    ),
    # usage
    Fault(
        "an event used something else than the sum says",
        Invariant.USAGE,
        each(APPROVED, "model_called"),
        change=altered(APPROVED, "model_called", lambda event: spend(event.usage)),
    ),
    Fault(
        "a sum is wrong",
        Invariant.USAGE,
        each(APPROVED, "completed"),
        change=altered(APPROVED, "completed", lambda event: spend(event.status.usage)),
    ),
)
