"""`agentmesh spend`."""

from collections.abc import Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import click

from cli.choices import SPEND_DIMENSIONS, SPEND_FORMATS
from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.point_in_time import POINT_IN_TIME, parse_time
from cli.problem import Problem


class _Dimensions(click.ParamType[tuple[str, ...]]):
    """Names of SPEND_DIMENSIONS with commas between them, each once."""

    name = "dimensions"

    def convert(
        self, value: Any, param: click.Parameter | None, ctx: click.Context | None
    ) -> tuple[str, ...]:
        """The names, outermost first."""
        names = tuple(str(value).split(","))
        for each in names:
            if each not in SPEND_DIMENSIONS:
                known = ", ".join(SPEND_DIMENSIONS)
                self.fail(f"{each!r} is none of {known}.", param, ctx)
            if names.count(each) > 1:
                self.fail(f"{each} is given twice.", param, ctx)
        return names


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh spend", "today and this month, against the limits, and where it leads"),
        Example("agentmesh spend --since 7d", "the last seven days in one sum"),
        Example("agentmesh spend --by model", "this month's, the dearest model first"),
        Example(
            "agentmesh spend --by day,task-type --since 7d", "a week's, day by day and by task type"
        ),
        Example(
            "agentmesh spend --by task-type --since 2026-10-01 --until 2026-11-01",
            "October's, with what a task and a successful task cost",
        ),
        Example("agentmesh spend --by tenant --all-tenants", "who spends what"),
        Example("agentmesh spend --export parquet november.parquet --since month", "every entry"),
        Example("agentmesh spend --tenant acme --json", "another tenant's, for a script"),
    ],
)
@click.option(
    "--by",
    type=_Dimensions(),
    metavar="NAME[,NAME...]",
    help=f"Group by {', '.join(SPEND_DIMENSIONS)}; outermost first.",
)
@click.option(
    "--since",
    type=POINT_IN_TIME,
    metavar="TIME",
    help="From this time on: 7d (ago), today, month, 2026-11-20 or 2026-11-20T14:30"
    " (default: month).",
)
@click.option("--until", type=POINT_IN_TIME, metavar="TIME", help="Until before this time.")
@click.option(
    "--export",
    "export",
    type=(click.Choice(list(SPEND_FORMATS)), click.Path(path_type=Path, allow_dash=True)),
    metavar="FORMAT FILE",
    help=f"Write every entry to FILE, or - for stdout, as {', '.join(SPEND_FORMATS)}.",
)
@click.option("--all-tenants", is_flag=True, help="All tenants together; for operators.")
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many groups.",
)
@pass_invocation
def spend(
    invocation: Invocation,
    by: Sequence[str] | None,
    since: datetime | None,
    until: datetime | None,
    export: tuple[str, Path] | None,
    all_tenants: bool,
    limit: int,
) -> None:
    """Show what was spent, on what, and where that leads.

    Without options: today and this month against the tenant's limits, the last days
    as a chart, and what the day and the month will have cost if spending goes on as
    it did. With a time alone: what was spent in it, in one sum. PER SUCCESS is the
    cost of all tasks for each one that succeeded.
    """
    now = datetime.now(UTC)
    if export is not None and by:
        raise Problem("--export writes every entry: leave --by away.", exit_code=2)
    begin = since or parse_time("month", now) or now
    if until is not None and until <= begin:
        raise Problem("--until must be after --since.", exit_code=2)
    if all_tenants and not by and export is None:
        by = ("tenant",)
    if by is None and export is None and since is None and until is None:
        from cli import spend_calls

        spend_calls.show_spend(invocation, now)
        return
    parent = "tenants/-" if all_tenants else invocation.parent
    if export is not None:
        from agentmesh.governor.v1.cost_governor_service_pb2 import ExportSpendRequest
        from cli import spend_export

        form, file = export
        request = ExportSpendRequest(parent=parent, start_time=begin, format=SPEND_FORMATS[form])
        if until is not None:
            request.end_time.FromDatetime(until)
        spend_export.export(invocation, request, file)
        return

    from cli import spend_calls

    dimensions = [SPEND_DIMENSIONS[name] for name in by or ()]
    spend_calls.show_groups(invocation, parent, dimensions, begin, until, limit)
