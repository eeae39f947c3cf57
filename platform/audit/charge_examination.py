"""Compares the model steps in the log with the governor's charges."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC
from typing import Final, Protocol

from audit import charges
from audit.charges import Charge
from audit.entry import Entry
from audit.examination import TaskLogs
from audit.finding import Finding, Invariant, TaskKey, finding
from audit.histories import Histories
from audit.recorded import Recorded
from audit.remembered import Remembered
from audit.second_look import side_by_side
from audit.track import Track
from meshkit.clock import Clock

_TOGETHER: Final = 1000


class Charges(Protocol):
    """What the governor charged."""

    async def exist(self, charges: Sequence[Charge]) -> Sequence[bool]: ...
    def all(self, tenant: str) -> AsyncGenerator[Charge]: ...


class ChargeExamination:
    """Steps without a charge, and charges without a step."""

    def __init__(
        self, store: Charges, logs: TaskLogs, clock: Clock, *, tenant: str, remembered: Remembered
    ) -> None:
        """`remembered`: of which settlements the governor must know."""
        self._store: Final = store
        self._logs: Final = logs
        self._tenant: Final = tenant
        self._remembered: Final = remembered
        self._now: Final = clock.now()
        self._recorded: Final = Recorded()
        self._wanted: list[tuple[Charge, int]] = []
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
        if cost and self._remembered.covers(entry.event.time.ToDatetime(tzinfo=UTC), self._now):
            self._wanted.append((charge, entry.stream_sequence))

    async def catch_up(self) -> list[Finding]:
        """Looks for the charges of the steps seen so far."""
        return await self._look_up() if len(self._wanted) >= _TOGETHER else []

    async def _look_up(self) -> list[Finding]:
        wanted, self._wanted = self._wanted, []
        there = await self._store.exist([charge for charge, _ in wanted])
        self._counts["charged_steps"] += len(wanted)
        return [
            charges.missing(charge, stream_sequence)
            for (charge, stream_sequence), found in zip(wanted, there, strict=True)
            if not found
        ]

    async def finish(self, histories: Histories) -> list[Finding]:
        """Looks for the steps of the charges that there are."""
        found = await self._look_up() if self._wanted else []
        unknown: dict[TaskKey, set[Charge]] = {}
        async with aclosing(self._store.all(self._tenant)) as all_charges:
            async for charge in all_charges:
                self._counts["charges"] += 1
                self._counts["charged_micros"] += charge.cost_micros
                if charge not in self._recorded and not histories.ended.has_expired(charge.task):
                    unknown.setdefault(charge.task, set()).add(charge)
        for task, log in await side_by_side(unknown, self._logs.of_task):
            for said in charges.judge(sorted(unknown[task]), log) if log else ():
                if isinstance(said, Finding):
                    found.append(said)
                else:
                    self._counts["unrecorded_charges"] += 1
                    self._counts["unrecorded_micros"] += said.charge.cost_micros
            if not log:
                found += await self._homeless(task, unknown[task])
        return found

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
        """Charges whose step was never recorded."""
        count = self._counts["unrecorded_charges"]
        if not count:
            return ()
        return (
            f"{count} charges ({self._counts['unrecorded_micros']} micro-dollars) are of model"
            " calls whose attempt ended before they were recorded.",
        )
