"""Test-only: a journal and its ledger in memory, which keep to what the real ones promise."""

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from typing import Final

from agentmesh.governor.v1 import usage_record_pb2 as pb
from meshkit.errors import MeshError
from services.governor.account import Balance, FirstRecord, Usage
from services.governor.admission import Likely
from services.governor.budget import Scope, ScopeKind


class ScriptedLedger:
    """What was appended, and what it adds up to. A key's first record is the one that counts."""

    def __init__(self) -> None:
        self.messages: Final[list[list[pb.UsageRecord]]] = []
        # While set, appending fails with it, before or after it was stored.
        self.append_failure: MeshError | None = None
        self.loses_answers = False
        # While set, asking fails with it.
        self.failure: MeshError | None = None
        self.profiles: Final[dict[tuple[str, str, int], Likely]] = {}
        # Grows when the journal is created anew.
        self.age = 1
        # How often it was asked.
        self.asked = 0

    @property
    def created_ms(self) -> int:
        """Another number for a journal that was created anew."""
        return self.age

    async def last_place(self) -> int:
        """How many messages there are."""
        return len(self.messages)

    async def append(self, records: Sequence[pb.UsageRecord]) -> int:
        """Stores records; their place."""
        if self.append_failure is not None and not self.loses_answers:
            raise self.append_failure
        self.messages.append(
            [pb.UsageRecord.FromString(each.SerializeToString()) for each in records]
        )
        if self.append_failure is not None:
            raise self.append_failure
        return len(self.messages)

    async def refresh(self) -> None:
        """Its age is always known."""

    async def balance(self, scope: Scope, start: datetime, end: datetime | None) -> Balance:
        """What was settled for a scope in a time."""
        self._ask()
        return self.balance_now(scope, start, end)

    def balance_now(self, scope: Scope, start: datetime, end: datetime | None) -> Balance:
        """The same, at once and without a fault."""
        spent, usage = 0, Usage()
        for record in self.firsts().values():
            settled_at = record.settle_time.ToDatetime(UTC)
            if (
                _falls_under(record, scope)
                and start <= settled_at
                and (not end or settled_at < end)
            ):
                spent += record.usage.cost_micros
                usage = Usage(*(a + b for a, b in zip(usage, _usage(record), strict=True)))
        return Balance(spent, usage, len(self.messages))

    async def first_records(
        self, keys: Sequence[tuple[str, str]]
    ) -> Mapping[tuple[str, str], FirstRecord]:
        """What each key was first."""
        self._ask()
        found: dict[tuple[str, str], FirstRecord] = {}
        for place, records in enumerate(self.messages, start=1):
            for record in records:
                first = FirstRecord(
                    place,
                    record.settle_time.ToDatetime(UTC),
                    record.model,
                    record.usage.cost_micros,
                    _usage(record),
                )
                found.setdefault((record.tenant, record.key), first)
        return {key: found[key] for key in keys if key in found}

    def likely(self, tenant: str, task_type: str, tier: int) -> Likely | None:
        """What was put into `profiles`."""
        return self.profiles.get((tenant, task_type, tier))

    def firsts(self) -> dict[tuple[str, str], pb.UsageRecord]:
        """The first record of each tenant's key."""
        found: dict[tuple[str, str], pb.UsageRecord] = {}
        for records in self.messages:
            for record in records:
                found.setdefault((record.tenant, record.key), record)
        return found

    def _ask(self) -> None:
        self.asked += 1
        if self.failure is not None:
            raise self.failure


def _falls_under(record: pb.UsageRecord, scope: Scope) -> bool:
    if scope.kind is ScopeKind.GLOBAL:
        return True
    subjects = {
        ScopeKind.TENANT: "",
        ScopeKind.TASK_TYPE: record.task_type,
        ScopeKind.AGENT: record.agent,
        ScopeKind.SESSION: record.session,
        ScopeKind.TASK: record.task,
    }
    return record.tenant == scope.tenant and subjects[scope.kind] == scope.subject


def _usage(record: pb.UsageRecord) -> Usage:
    usage = record.usage
    return Usage(
        usage.input_tokens,
        usage.output_tokens,
        usage.model_calls,
        usage.tool_calls,
        usage.cache_hits,
        usage.cached_input_tokens,
    )
