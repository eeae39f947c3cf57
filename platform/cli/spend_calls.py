"""The calls of `agentmesh spend`, and what they print."""

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from agentmesh.governor.v1.cost_governor_service_pb2 import (
    GetSpendRequest,
    GetSpendResponse,
    ProjectSpendRequest,
    ProjectSpendResponse,
    QuerySpendRequest,
    SpendDimension,
    SpendRow,
)
from cli.gateway import CALL_SECONDS, GOVERNOR_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.spend_view import DAYS, in_order, show_overview, show_rows, show_sum
from meshkit.errors import DependencyUnavailable, NotImplementedYet

# So many groups are read where fewer are to be shown.
_READ_GROUPS: Final = 10_000
_MOST_DAYS: Final = 1000


@dataclass(frozen=True, slots=True)
class _Ledger:
    """What the ledger tells; nothing where it could not be asked."""

    projection: ProjectSpendResponse
    days: Sequence[SpendRow]
    # Why it could not be asked.
    silent_because: str = ""


def show_spend(invocation: Invocation, now: datetime) -> None:
    """Prints what the tenant spent today and this month, and where that leads."""

    async def run(gateway: Gateway) -> tuple[GetSpendResponse, _Ledger]:
        request = GetSpendRequest(parent=invocation.parent)
        present = await gateway.governor.GetSpend(request, timeout=GOVERNOR_SECONDS)
        return present, await _ledger(gateway, invocation.parent, now)

    present, ledger = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        document = to_plain(present)
        if not ledger.silent_because:
            document["projection"] = to_plain(ledger.projection)
            document["days"] = [to_plain(each) for each in ledger.days]
        invocation.terminal.document(document)
        return
    show_overview(invocation.terminal, present, ledger.projection, ledger.days, now)
    if ledger.silent_because:
        invocation.terminal.warn(
            f"Projections and earlier days are left out: {ledger.silent_because}"
        )


def show_groups(
    invocation: Invocation,
    parent: str,
    group_by: Sequence[SpendDimension],
    since: datetime,
    until: datetime | None,
    limit: int,
) -> None:
    """Prints spending by group, the first `limit` of them; without one, the sum."""
    request = QuerySpendRequest(parent=parent, start_time=since, group_by=group_by)
    if until is not None:
        request.end_time.FromDatetime(until)

    # They come in order of name: the dearest may be the last one, and the sum is that of all.
    read = max(limit, _READ_GROUPS)

    async def run(gateway: Gateway) -> list[SpendRow]:
        return await collect(
            gateway.governor.QuerySpend, request, lambda page: page.rows, limit=read + 1
        )

    found = call(address_of(invocation), invocation.tenant, run)
    rows = in_order(found[:read], group_by)
    if invocation.terminal.as_json:
        invocation.terminal.document({"rows": [to_plain(each) for each in rows[:limit]]})
    elif not group_by:
        show_sum(invocation.terminal, rows, since, until)
    else:
        show_rows(invocation.terminal, rows, limit, group_by, since, until)
        if len(found) > read:
            invocation.terminal.warn(
                f"There are more than {read:,} groups; these, and the sum, are of the first"
                f" {read:,} by name: --limit or a shorter time shows all."
            )
        elif len(rows) > limit:
            invocation.terminal.warn(
                f"These are the first {limit:,} of {len(rows):,}; --limit shows more."
            )


async def _ledger(gateway: Gateway, parent: str, now: datetime) -> _Ledger:
    try:
        projection = await gateway.governor.ProjectSpend(
            ProjectSpendRequest(parent=parent), timeout=CALL_SECONDS
        )
        days = await collect(
            gateway.governor.QuerySpend,
            QuerySpendRequest(
                parent=parent,
                start_time=now - timedelta(days=DAYS),
                group_by=[SpendDimension.SPEND_DIMENSION_DAY],
            ),
            lambda page: page.rows,
            limit=_MOST_DAYS,
        )
    except (DependencyUnavailable, NotImplementedYet) as error:
        # What Redis knows is worth showing without it.
        return _Ledger(ProjectSpendResponse(), (), error.message)
    return _Ledger(projection, days)
