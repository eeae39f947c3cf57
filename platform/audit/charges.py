"""Every model step is charged once, at the cost that the log records.

A charge is kept under `<task>/<step>/<sequence of the attempt's started>`. A call
that was made again although it was settled is kept under the same with `#2`, `#3`, ...,
or with `#` and an id where two processes made it. One that was made besides, since the first
took unusually long, has `#hedge`; one of another model has `#` and the name of that.
A charge whose step is not in the log may still be right: the attempt ended between
the charge and its record. That is told, and is a finding only where it cannot be so.
"""

import re
from collections import Counter
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentmesh.coordinator.v1 import task_pb2
from audit.entry import Entry, is_whole
from audit.finding import Finding, Invariant, TaskKey, finding

# A step during which its executor died is made once more, and no third time.
_MOST_DEATHS: Final = 2
_KEY: Final = re.compile(
    r"([a-z0-9][a-z0-9-]{0,62})/([1-9]\d{0,8})/([1-9]\d{0,17})(?:#([A-Za-z0-9#._:/@+-]{1,150}))?"
)
_WORKING: Final = task_pb2.TASK_STATE_RUNNING


class Charge(NamedTuple):
    """What the governor charged for one model step of a task, in micro-dollars."""

    task: TaskKey
    step: int
    # The number of the event with which the attempt began.
    start: int
    cost_micros: int
    # What tells a further call under the same key from the first: `2`, `3`, ..., or an id.
    call: str = ""

    @property
    def key(self) -> str:
        """What it is kept under."""
        again = f"#{self.call}" if self.call else ""
        return f"{self.task.task_id}/{self.step}/{self.start}{again}"

    @property
    def place(self) -> "Place":
        """The step of the attempt that it is of."""
        return Place(self.task, self.step, self.start)


class Place(NamedTuple):
    """A model step of one attempt."""

    task: TaskKey
    step: int
    start: int


@dataclass(frozen=True, slots=True)
class Unrecorded:
    """A charge whose attempt ended before the step was recorded: both calls were made."""

    charge: Charge


@dataclass(frozen=True, slots=True)
class Repeated:
    """A charge of a call that was made again, while the record is of another one."""

    charge: Charge


def charge_of(tenant: str, key: str, cost_micros: int) -> Charge | None:
    """The charge under `key`; None where no task's step is charged under it."""
    match = _KEY.fullmatch(key)
    if match is None:
        return None
    task_id, step, start, call = match.groups()
    return Charge(TaskKey(tenant, task_id), int(step), int(start), cost_micros, call or "")


def step_of(entry: Entry) -> int:
    """The model step that the event records; 0 for none."""
    match entry.kind:
        case "model_called":
            return entry.event.model_called.step
        case "completed" if entry.event.completed.HasField("model_called"):
            return entry.event.completed.model_called.step
        case _:
            return 0


def missing(charge: Charge, stream_sequence: int) -> Finding:
    """The step is recorded with a cost, and the journal has no charge."""
    return finding(
        Invariant.CHARGE,
        charge.task,
        f"Step {charge.step} cost {charge.cost_micros} micro-dollars, and there is no charge"
        f" under {charge.key}.",
        stream_sequence,
        remedy="The governor counts too little: look for reasoning's settlements that were not"
        " made yet (`agentmesh logs reasoning`), or that were lost with its disk.",
    )


def judge(
    charges: Sequence[Charge], log: Sequence[Entry], calls: Mapping[Place, int]
) -> Iterator[Finding | Unrecorded | Repeated]:
    """What is to be said of charges of one task that were not found in its log at first.

    Args:
        charges: Different charges of the task.
        log: Everything that its log holds by now.
        calls: How many charges there are of a step, where these are several.
    """
    if not is_whole(log):
        return  # its content was removed, or the gap in it is a finding of its own
    attempts = _attempts(log)
    others = Counter(charge.place for charge in charges)
    deaths: dict[tuple[int, int], set[int]] = {}
    for charge in charges:
        attempt = attempts.get(charge.start)
        if attempt is None:
            yield _finding(charge, f"event {charge.start} of its log began no attempt", log[-1])
            continue
        recorded = attempt.model_steps.get(charge.step)
        if recorded is not None:
            cost = recorded.event.usage.cost_micros
            if cost == charge.cost_micros:
                continue
            if others[charge.place] < calls.get(charge.place, 1):
                yield Repeated(charge)
            else:
                yield _finding(charge, f"the log records a cost of {cost}", recorded)
        elif charge.step <= attempt.steps_before:
            yield _finding(charge, "the step was recorded before the attempt began", attempt.start)
        elif charge.step != attempt.steps_after + 1:
            yield _finding(charge, "the attempt made no such model step", attempt.start)
        elif not attempt.goes_on:
            yield Unrecorded(charge)
            if attempt.died:
                deaths.setdefault((attempt.epoch, charge.step), set()).add(charge.start)
    for (_, step), starts in deaths.items():
        if len(starts) > _MOST_DEATHS:
            yield finding(
                Invariant.CHARGE,
                charges[0].task,
                f"Step {step} was charged in {len(starts)} attempts that died in it; a step"
                " is made again once.",
                *sorted(attempts[start].start.stream_sequence for start in starts),
            )


@dataclass(slots=True)
class _Attempt:
    start: Entry
    # How often the task had been redriven before.
    epoch: int
    steps_before: int
    steps_after: int
    model_steps: dict[int, Entry]
    # Another executor took the task over from this one.
    died: bool = False
    goes_on: bool = True


def _attempts(log: Sequence[Entry]) -> dict[int, _Attempt]:
    """Attempts by the number of their `started`."""
    found: dict[int, _Attempt] = {}
    current: _Attempt | None = None
    epoch = 0
    for entry in log:
        status = entry.event.status
        if entry.kind == "redriven":
            epoch += 1
        if entry.kind == "started":
            if current is not None and current.goes_on:
                current.died, current.goes_on = True, False
            current = _Attempt(entry, epoch, status.steps, status.steps, {})
            found[entry.event.sequence] = current
        elif current is not None:
            step = step_of(entry)
            if step:
                current.model_steps[step] = entry
            current.steps_after = status.steps
            if status.state != _WORKING:
                current.goes_on = False
    return found


def _finding(charge: Charge, why: str, entry: Entry) -> Finding:
    return finding(
        Invariant.CHARGE,
        charge.task,
        f"{charge.cost_micros} micro-dollars were charged under {charge.key}, but {why}.",
        entry.stream_sequence,
    )
