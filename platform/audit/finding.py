"""What an audit finds: where the log or the stores break a promise."""

from collections.abc import Mapping
from dataclasses import dataclass
from enum import StrEnum
from typing import Final, NamedTuple


class Invariant(StrEnum):
    """What must hold. The names are for programs, too: they do not change."""

    REPLAY = "replay"
    FORK = "fork"
    END = "end"
    LOST = "lost"
    FENCING = "fencing"
    CHARGE = "charge"
    EFFECT = "effect"
    TENANT = "tenant"
    CONTENT = "content"
    CHILDREN = "children"
    USAGE = "usage"
    SPEND = "spend"


# In a sentence each, as summaries show them.
SAYS: Final[Mapping[Invariant, str]] = {
    Invariant.REPLAY: "Every log replays to the status that it records.",
    Invariant.FORK: "No log has two events with the same number.",
    Invariant.END: "Every task has one end, and nothing after it.",
    Invariant.LOST: "Every open task stands in a queue, is held, or waits.",
    Invariant.FENCING: "Only the executor that started a task writes its steps.",
    Invariant.CHARGE: "Every model step is charged once, at its recorded cost.",
    Invariant.EFFECT: "Every tool call is recorded once, in the log and by the tool service.",
    Invariant.TENANT: "No record crosses tenants.",
    Invariant.CONTENT: "Large content lies outside the log, whole and readable.",
    Invariant.CHILDREN: "Parents and their child tasks agree.",
    Invariant.USAGE: "A task's usage is the sum of its events' usage.",
    Invariant.SPEND: "Budgets and ledger have what was settled, and nothing stays reserved.",
}

# What to do, unless the finding knows better.
_REMEDIES: Final[Mapping[Invariant, str]] = {
    Invariant.REPLAY: "Do not trust what the task shows; compare its events one by one"
    " (`agentmesh task events`) and submit the work again under a new request_id.",
    Invariant.FORK: "Somebody wrote without compare-and-set: find the writer of the second event"
    " and stop it before anything else.",
    Invariant.END: "The first end is what callers were told: find the writer of what follows it.",
    Invariant.LOST: "Cancel the task and submit it again; then look why its message was"
    " acknowledged.",
    Invariant.FENCING: "Two executors ran the task at once: check its tool calls for effects"
    " that happened twice.",
    Invariant.CHARGE: "Compare the charge with the provider's bill, and correct the ledger.",
    Invariant.EFFECT: "Look at the tool's own system whether the effect happened, and how often.",
    Invariant.TENANT: "Treat it as a leak: stop the writer, and tell both tenants.",
    Invariant.CONTENT: "The task can no longer be read in full: restore the object store,"
    " or submit the task again.",
    Invariant.CHILDREN: "Look at the parent and the child (`agentmesh task get`), and cancel what"
    " nobody waits for.",
    Invariant.USAGE: "Add up the usage of the task's events; that sum is what was used.",
    Invariant.SPEND: "The journal of usage is what counts; begin what differs from it again.",
}


class TaskKey(NamedTuple):
    """A task, as its subject names it."""

    tenant: str
    task_id: str


@dataclass(frozen=True, slots=True)
class Finding:
    """One place where an invariant does not hold."""

    invariant: Invariant
    tenant: str
    # Empty where no task can be named.
    task_id: str
    # Of the offending events; empty where none is there.
    stream_sequences: tuple[int, ...]
    sentence: str
    # What to do about it.
    remedy: str
    # In which the events stand; empty for the one that has the tenant's tasks.
    stream: str = ""


def finding(
    invariant: Invariant,
    task: TaskKey,
    sentence: str,
    *stream_sequences: int,
    remedy: str = "",
    stream: str = "",
) -> Finding:
    """A finding with the usual remedy of its invariant, unless another one is given.

    `stream`: where its events stand, unless that is where the tenant's tasks are.
    """
    return Finding(
        invariant,
        task.tenant,
        task.task_id,
        stream_sequences,
        sentence,
        remedy or _REMEDIES[invariant],
        stream,
    )
