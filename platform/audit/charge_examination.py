"""Compares the model steps in the log with the charges in the journal of usage."""

from collections import Counter
from collections.abc import Mapping, Sequence
from contextlib import aclosing
from datetime import UTC, datetime
from typing import Final

from audit import charges
from audit.charges import Charge, Place, Repeated, Unrecorded, charge_of
from audit.entry import Entry
from audit.examination import TaskLogs
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.hash_set import HashSet
from audit.histories import Histories
from audit.recent import ON_ITS_WAY
from audit.recorded import Recorded
from audit.second_look import patiently, side_by_side
from audit.track import Track
from audit.usage import Journal
from meshkit.clock import Clock

_TOGETHER: Final = 1000


class ChargeExamination:
    """Steps without a charge, and charges without a step."""

    def __init__(self, journal: Journal, logs: TaskLogs, clock: Clock, *, tenant: str) -> None:
        """`tenant`: whose tasks; of all where it is empty."""
        self._journal: Final = journal
        self._logs: Final = logs
        self._clock: Final = clock
        self._tenant: Final = tenant
        self._final_before: Final = clock.now() - ON_ITS_WAY
        # Of the log.
        self._recorded: Final = Recorded()
        # Steps whose charge was not met yet, with their place in the log.
        self._wanted: list[tuple[Charge, int, datetime]] = []
        # Of the journal, up to `_read_to`.
        self._charged: Final = HashSet()
        self._read_to = 0
        self._counts: Final = Counter[str]()

    @property
    def kinds(self) -> frozenset[str]:
        """Model steps."""
        return frozenset({"model_called", "completed"})

    def see(self, entry: Entry, before: Track | None) -> None:
        """Notes a model step."""
        step = charges.step_of(entry)
        if not step or before is None or not before.start_sequence:
            return
        cost = entry.event.usage.cost_micros
        charge = Charge(entry.task, step, before.start_sequence, cost)
        self._recorded.add(charge)
        time = entry.event.time.ToDatetime(tzinfo=UTC)
        if cost and time > self._final_before:
            # Its charge may be on its way.
            self._counts["recent_steps"] += 1
        elif cost:
            self._wanted.append((charge, entry.stream_sequence, time))

    async def catch_up(self) -> list[Finding]:
        """Looks for the charges of the steps seen so far; what is not there may yet come."""
        if len(self._wanted) >= _TOGETHER:
            await self._look_up()
        return []

    async def _look_up(self) -> bool:
        """Drops the steps that the journal has a charge for; whether it has one for all."""
        span = await self._journal.span()
        if span is None:
            # A mesh in which nothing was ever settled.
            self._wanted = []
            return True
        async with aclosing(self._journal.read(self._read_to, span.end)) as records:
            async for spent in records:
                charge = charge_of(spent.tenant, spent.key, spent.cost_micros)
                if charge is not None:
                    self._charged.add(charge.place)
        self._read_to = max(self._read_to, span.end)
        left = [
            each
            for each in self._wanted
            if each[0].place not in self._charged and each[2] >= span.since
        ]
        self._counts["charged_steps"] += len(self._wanted) - len(left)
        self._wanted = left
        return not left

    async def finish(self, histories: Histories) -> list[Finding]:
        """Looks for the steps of the charges that there are."""
        await patiently(self._look_up, self._clock)
        self._counts["charged_steps"] += len(self._wanted)
        found = [charges.missing(charge, sequence) for charge, sequence, _ in self._wanted]
        unknown, calls = await self._unknown(histories)
        for task, log in await side_by_side(unknown, self._logs.of_task):
            for said in charges.judge(sorted(unknown[task]), log, calls) if log else ():
                match said:
                    case Finding():
                        found.append(said)
                    case Unrecorded():
                        self._counts["unrecorded_charges"] += 1
                        self._counts["unrecorded_micros"] += said.charge.cost_micros
                    case Repeated():
                        pass
            if not log:
                found += await self._homeless(task, unknown[task])
        return found

    async def _unknown(
        self, histories: Histories
    ) -> tuple[Mapping[TaskKey, set[Charge]], Mapping[Place, int]]:
        """Charges that the log was not seen to record; how many there are of a step, if several."""
        unknown: dict[TaskKey, set[Charge]] = {}
        calls: dict[Place, int] = {}
        keys = HashSet()
        async with aclosing(self._journal.read(0, self._read_to)) as records:
            async for spent in records:
                if self._tenant not in ("", spent.tenant):
                    continue
                charge = charge_of(spent.tenant, spent.key, spent.cost_micros)
                if charge is None or not keys.add((spent.tenant, spent.key)):
                    continue
                self._counts["charges"] += 1
                self._counts["charged_micros"] += charge.cost_micros
                if charge.call:
                    calls[charge.place] = calls.get(charge.place, 1) + 1
                    self._counts["repeated_charges"] += 1
                    self._counts["repeated_micros"] += charge.cost_micros
                recorded = charge._replace(call="") in self._recorded
                if not recorded and not histories.ended.has_expired(charge.task):
                    unknown.setdefault(charge.task, set()).add(charge)
        return unknown, calls

    async def _homeless(self, task: TaskKey, theirs: set[Charge]) -> list[Finding]:
        elsewhere = await self._logs.owners(task.task_id)
        keys = ", ".join(sorted(charge.key for charge in theirs))
        if elsewhere:
            return [
                finding(
                    Invariant.TENANT,
                    task,
                    f"Tenant {task.tenant} was charged under {keys}, but the task is one of"
                    f" {elsewhere[0].tenant}.",
                )
            ]
        return [
            finding(
                Invariant.CHARGE,
                task,
                f"Tenant {task.tenant} was charged under {keys}, and there is no such task.",
                remedy="If the log was restored from a backup, tasks accepted since are lost.",
            )
        ]

    def counts(self) -> Mapping[str, int]:
        """What was looked at; money in micro-dollars."""
        return self._counts

    def remarks(self) -> Sequence[str]:
        """Charges whose step was never recorded, and calls that were paid more than once."""
        unrecorded, repeated = self._counts["unrecorded_charges"], self._counts["repeated_charges"]
        said: list[str] = []
        if unrecorded:
            said.append(
                f"{unrecorded} charges ({self._counts['unrecorded_micros']} micro-dollars) are of"
                " model calls whose attempt ended before they were recorded."
            )
        if repeated:
            said.append(
                f"{repeated} charges ({self._counts['repeated_micros']} micro-dollars) are of"
                " model calls that were made again, because the answer to the first was lost."
            )
        return said
