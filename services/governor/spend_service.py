"""The RPCs that the ledger answers: spending, projections, profiles, forecasts, exports."""

import math
from collections.abc import AsyncGenerator
from contextlib import aclosing
from datetime import UTC, datetime, tzinfo
from typing import Final, Protocol

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import page_token
from meshkit.clock import Clock
from meshkit.errors import InvalidField, InvalidPageToken
from services.governor import convert, spend_message
from services.governor.budget import Budget, Place, Scope, ScopeKind
from services.governor.forecast import TaskUse, TaskUses, forecast
from services.governor.ledger_sums import Sums, micros_of, time_of
from services.governor.profiles_sql import SqlProfiles
from services.governor.spend_export import Export, Format, SpendExport
from services.governor.spend_projection import HISTORY, Present, Spent, project
from services.governor.spend_query import SpendLedger, SpendQuery
from services.governor.window import Window, WindowKind, window_of, zone_of
from sqlstore.database import Readable

_ALL_TENANTS: Final = "tenants/-"
_BEGINNING: Final = datetime(1970, 1, 1, tzinfo=UTC)
_ROWS: Final = 100
_PROFILES: Final = 50
_MOST_TYPES: Final = 100
_MOST_PER_MINUTE: Final = 1e9
# A trillion dollars, which the answer's field still holds.
_MOST_COST_MICROS: Final = 10**18
# The last charge, the end in microseconds, and how many groups came before.
_SPEND_POSITION: Final = r"[0-9]{1,18}/[0-9]{1,18}/[0-9]{1,9}"
# Databases refuse some control characters.
_PROFILE_POSITION: Final = r"[0-9]/[^\x00-\x1f\x7f-\x9f]*"
_FORMATS: Final = {
    pb.SPEND_FORMAT_UNSPECIFIED: Format.CSV,
    pb.SPEND_FORMAT_CSV: Format.CSV,
    pb.SPEND_FORMAT_PARQUET: Format.PARQUET,
    pb.SPEND_FORMAT_ARROW: Format.ARROW,
}


class Budgets(Protocol):
    """The budgets in force."""

    def get(self, place: Place) -> Budget | None:
        """The one in that place; None where there is none."""
        ...


class Operators(Protocol):
    """Who may see what concerns all tenants."""

    def require_caller(self, to_do: str) -> None:
        """Forbidden unless the call that is being served is an operator's."""
        ...


class SpendService:
    """Checks who asks, decodes, asks the ledger, encodes."""

    def __init__(
        self,
        database: Readable,
        task_uses: TaskUses,
        budgets: Budgets,
        operators: Operators,
        clock: Clock,
    ) -> None:
        self._database: Final = database
        self._ledger: Final = SpendLedger(database)
        self._export: Final = SpendExport(database)
        self._profiles: Final = SqlProfiles(database)
        self._task_uses: Final = task_uses
        self._budgets: Final = budgets
        self._operators: Final = operators
        self._clock: Final = clock

    async def query(self, request: pb.QuerySpendRequest) -> pb.QuerySpendResponse:
        """Spending by group."""
        tenant = self._tenant(request.parent, "see the spending of all tenants")
        group_by = spend_message.dimensions(request.group_by)
        size = page_token.page_size(request.page_size, default=_ROWS)
        token = page_token.query_of(request)
        position = page_token.decode(token, request.page_token, shape=_SPEND_POSITION)
        start, end = self._bounds(request)
        last_charge, skip = None, 0
        if position is not None:
            last_charge, end_micros, skip = map(int, position.split("/"))
            end = _end_in_token(end_micros)
        query = SpendQuery(tenant, start, end, group_by, self._zone(tenant))
        page = await self._ledger.page(query, last_charge=last_charge, skip=skip, limit=size)
        following = f"{page.last_charge}/{micros_of(end)}/{skip + size}"
        return pb.QuerySpendResponse(
            rows=map(spend_message.row, page.groups),
            next_page_token=page_token.encode(token, following) if page.has_more else "",
        )

    async def project(self, request: pb.ProjectSpendRequest) -> pb.ProjectSpendResponse:
        """What the present day and month will have cost."""
        tenant, now = convert.tenant(request.parent), self._clock.now()
        zones = {kind: self._zone(tenant, kind) for kind in (WindowKind.DAY, WindowKind.MONTH)}
        windows = {kind: window_of(kind, now, zone) for kind, zone in zones.items()}
        scope = Scope(ScopeKind.TENANT, tenant)
        found: dict[WindowKind, pb.SpendProjection] = {}
        for kind, zone in zones.items():
            today = window_of(WindowKind.DAY, now, zone)
            spent = await self._spent(scope, min(windows[kind].start, today.start - HISTORY), today)
            projection = project(
                spent, Present(now, today, zone), windows[kind], self._limit(tenant, kind)
            )
            found[kind] = spend_message.projection(projection, self._limit(tenant, kind))
        return pb.ProjectSpendResponse(day=found[WindowKind.DAY], month=found[WindowKind.MONTH])

    async def export(
        self, request: pb.ExportSpendRequest
    ) -> AsyncGenerator[pb.ExportSpendResponse]:
        """The charges of a time as a file."""
        tenant = self._tenant(request.parent, "export the spending of all tenants")
        start, end = self._bounds(request)
        if request.format not in _FORMATS:
            raise InvalidField("format", f"must be a known format, not {request.format}")
        export = Export(tenant, start, end, _FORMATS[request.format])
        async with aclosing(self._export.parts(export)) as parts:
            async for part in parts:
                yield pb.ExportSpendResponse(data=part)

    async def profile(self, request: pb.GetTaskProfileRequest) -> pb.GetTaskProfileResponse:
        """What a task type used so far."""
        tenant = convert.tenant(request.parent)
        if not request.task_type:
            raise InvalidField("task_type", "must name the task type")
        task_type = convert.text("task_type", request.task_type)
        found = await self._profiles.of_task_type(tenant, task_type)
        return pb.GetTaskProfileResponse(profiles=map(spend_message.profile, found))

    async def profiles(self, request: pb.ListTaskProfilesRequest) -> pb.ListTaskProfilesResponse:
        """What the tenant's task types used so far."""
        tenant = convert.tenant(request.parent)
        size = page_token.page_size(request.page_size, default=_PROFILES)
        token = page_token.query_of(request)
        position = page_token.decode(token, request.page_token, shape=_PROFILE_POSITION)
        after = None
        if position is not None:
            tier, _, task_type = position.partition("/")
            after = task_type, int(tier)
        found = await self._profiles.page(tenant, after=after, limit=size + 1)
        following = ""
        if len(found) > size:
            last = found[size - 1].key
            following = page_token.encode(token, f"{last.tier}/{last.task_type}")
        profiles: list[budget_pb2.TaskProfile] = [
            spend_message.profile(each) for each in found[:size]
        ]
        return pb.ListTaskProfilesResponse(profiles=profiles, next_page_token=following)

    async def capacity(self, request: pb.ForecastCapacityRequest) -> pb.ForecastCapacityResponse:
        """What a load would cost and need."""
        tenant = convert.tenant(request.parent)
        load = dict(request.tasks_per_minute)
        if not 1 <= len(load) <= _MOST_TYPES:
            raise InvalidField(
                "tasks_per_minute", f"must have 1 to {_MOST_TYPES} task types, not {len(load)}"
            )
        uses: dict[str, TaskUse] = {}
        for task_type, per_minute in load.items():
            path = f"tasks_per_minute[{task_type}]"
            if not (math.isfinite(per_minute) and 0 <= per_minute <= _MOST_PER_MINUTE):
                raise InvalidField(
                    path, f"must be from 0 to {_MOST_PER_MINUTE:.0f}, not {per_minute}"
                )
            use = await self._task_uses.of(tenant, convert.text(path, task_type))
            if use is None:
                raise InvalidField(path, "must be a task type of which tasks were charged before")
            uses[task_type] = use
        found = forecast(load, uses)
        if found.cost_micros_per_hour > _MOST_COST_MICROS:
            raise InvalidField(
                "tasks_per_minute", "must not come to more than a trillion dollars an hour"
            )
        return pb.ForecastCapacityResponse(
            cost_micros_per_hour=found.cost_micros_per_hour,
            model_calls_per_minute=found.calls_per_minute,
            method=found.method,
        )

    async def _spent(self, scope: Scope, start: datetime, today: Window) -> Spent:
        end = today.end
        assert end is not None
        return await self._database.read(
            lambda on: Spent(
                Sums(on).by_quarter(scope, start, end), Sums(on).first_time(scope.tenant)
            )
        )

    def _tenant(self, parent: str, to_do: str) -> str | None:
        if parent == _ALL_TENANTS:
            self._operators.require_caller(to_do)
            return None
        return convert.tenant(parent)

    def _bounds(
        self, request: pb.QuerySpendRequest | pb.ExportSpendRequest
    ) -> tuple[datetime, datetime]:
        start, end = _BEGINNING, self._clock.now()
        if request.HasField("start_time"):
            start = _time("start_time", request.start_time)
        if request.HasField("end_time"):
            end = _time("end_time", request.end_time)
            if end < start:
                raise InvalidField("end_time", "must not be before `start_time`")
        return start, max(start, end)

    def _zone(self, tenant: str | None, kind: WindowKind = WindowKind.DAY) -> tzinfo:
        budget = self._budget(tenant, kind) if tenant else None
        return (zone_of(budget.time_zone) if budget else None) or UTC

    def _limit(self, tenant: str, kind: WindowKind) -> int:
        budget = self._budget(tenant, kind)
        return budget.limit_micros if budget else 0

    def _budget(self, tenant: str, kind: WindowKind) -> Budget | None:
        return self._budgets.get((Scope(ScopeKind.TENANT, tenant), kind))


def _end_in_token(micros: int) -> datetime:
    try:
        return time_of(micros)
    except OverflowError:
        raise InvalidPageToken("page_token is not one that this method gave.") from None


def _time(field: str, given: Timestamp) -> datetime:
    try:
        time = given.ToDatetime(UTC)
    except (ValueError, OverflowError):
        time = None
    if time is None or time < _BEGINNING:
        raise InvalidField(field, "must be a time from 1970-01-01T00:00:00Z on")
    return time
