"""Compares the tool calls in the log with the tool service's records."""

from collections import Counter
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from datetime import UTC
from typing import Final, Protocol

from audit import effects
from audit.effects import Call, CallRecord
from audit.ended_tasks import EndedTasks
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
# Of calls without a record, so many of one tool are kept.
_MOST_OF_A_TOOL: Final = 1000


class CallRecords(Protocol):
    """What the tool service remembers of calls that change something."""

    async def exist(self, calls: Sequence[Call]) -> Sequence[bool]: ...
    async def finished(self, records: Sequence[CallRecord]) -> Sequence[bool]: ...
    def all(self, tenant: str) -> AsyncGenerator[CallRecord]: ...


class EffectExamination:
    """Calls without a record, and records without a call.

    The log does not say which tools change something, and only those have
    records. A tool counts as one of them if its call was announced, or if
    another of its calls has a record.
    """

    def __init__(
        self,
        store: CallRecords,
        logs: TaskLogs,
        clock: Clock,
        *,
        tenant: str,
        remembered: Remembered,
    ) -> None:
        """`remembered`: of which calls the tool service must know."""
        self._store: Final = store
        self._logs: Final = logs
        self._tenant: Final = tenant
        self._remembered: Final = remembered
        self._now: Final = clock.now()
        self._recorded: Final = Recorded()
        self._wanted: list[Call] = []
        # By tenant and tool.
        self._with_records: Final = set[tuple[str, str]]()
        self._without: Final[dict[tuple[str, str], list[Call]]] = {}
        self._counts: Final = Counter[str]()

    @property
    def kinds(self) -> frozenset[str]:
        """Tool calls."""
        return frozenset({"tool_called"})

    def see(self, entry: Entry, before: Track | None) -> None:
        """Notes a tool call."""
        called = entry.event.tool_called
        key = called.idempotency_key
        if not key:
            return  # answered by the executor itself
        self._counts["tool_calls"] += 1
        self._recorded.add((entry.task.tenant, key))
        if (
            called.replayed
            or called.result.is_error
            or not self._remembered.covers(entry.event.time.ToDatetime(tzinfo=UTC), self._now)
        ):
            return
        intended = before is not None and before.intends(key)
        self._wanted.append(
            Call(entry.task, key, entry.stream_sequence, called.result.tool, intended)
        )

    async def catch_up(self) -> list[Finding]:
        """Looks for the records of the calls seen so far."""
        return await self._look_up() if len(self._wanted) >= _TOGETHER else []

    async def _look_up(self) -> list[Finding]:
        wanted, self._wanted = self._wanted, []
        found: list[Finding] = []
        for call, there in zip(wanted, await self._store.exist(wanted), strict=True):
            tool = (call.task.tenant, call.tool)
            if there:
                self._with_records.add(tool)
            elif call.intended:
                found.append(effects.missing(call))
            elif call.tool and len(calls := self._without.setdefault(tool, [])) < _MOST_OF_A_TOOL:
                calls.append(call)
        return found

    async def finish(self, histories: Histories) -> list[Finding]:
        """Looks for the calls of the records that there are."""
        found = await self._look_up() if self._wanted else []
        for tool in self._with_records & self._without.keys():
            found += [effects.missing(call) for call in self._without[tool]]
        unknown = await self._unknown(histories.ended)
        for task, log in await side_by_side(unknown, self._logs.of_task):
            if not log:
                found += await self._homeless(task, unknown[task])
                continue
            for said in effects.judge(sorted(unknown[task]), log):
                if isinstance(said, Finding):
                    found.append(said)
                else:
                    self._counts["unrecorded_calls"] += 1
        return found

    async def _unknown(self, ended: EndedTasks) -> Mapping[TaskKey, set[CallRecord]]:
        """Calls that were made and that the log, as it was read, does not have."""
        found: set[CallRecord] = set()
        async with aclosing(self._store.all(self._tenant)) as records:
            async for record in records:
                self._counts["call_records"] += 1
                name = (record.task.tenant, record.key)
                if name not in self._recorded and not ended.has_expired(record.task):
                    found.add(record)
        by_task: dict[TaskKey, set[CallRecord]] = {}
        ordered = sorted(found)
        for first in range(0, len(ordered), _TOGETHER):
            group = ordered[first : first + _TOGETHER]
            for record, is_finished in zip(group, await self._store.finished(group), strict=True):
                if is_finished:
                    by_task.setdefault(record.task, set()).add(record)
        return by_task

    async def _homeless(self, task: TaskKey, theirs: set[CallRecord]) -> list[Finding]:
        elsewhere = await self._logs.owners(task.task_id)
        if not elsewhere:
            # Clients call tools, too, under keys of their own.
            self._counts["calls_of_no_task"] += len(theirs)
            return []
        keys = ", ".join(sorted(record.key for record in theirs))
        return [
            finding(
                Invariant.TENANT,
                task,
                f"Tenant {task.tenant} has records of the calls {keys}, but the task is one of"
                f" {elsewhere[0].tenant}.",
            )
        ]

    def counts(self) -> Mapping[str, int]:
        """What was looked at."""
        return self._counts

    def remarks(self) -> Sequence[str]:
        """Calls that were never recorded."""
        count = self._counts["unrecorded_calls"]
        if not count:
            return ()
        return (f"{count} tool calls were made whose task ended before they were recorded.",)
