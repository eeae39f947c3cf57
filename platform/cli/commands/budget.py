"""`agentmesh budget`."""

import click

from cli.amount import DOLLARS
from cli.budget_place import Selection, name_of, place_of, selection_options
from cli.choices import LANES, TIERS
from cli.command import Example, MeshCommand, MeshGroup, pass_invocation
from cli.invocation import Invocation
from cli.percent import PERCENT, Percent
from cli.problem import Problem


@click.group(
    cls=MeshGroup,
    examples=[
        Example("agentmesh budget list", "every budget, and where it stands"),
        Example("agentmesh budget set --window day --limit 25", "25 dollars a day for the tenant"),
        Example("agentmesh budget explain --task-type research", "what would be decided, and why"),
    ],
)
def budget() -> None:
    """Limit what is spent, and see how far it has come.

    A call falls under every budget there is for it: all tenants', its tenant's, its
    task type's, its agent's and its session's. The hardest decision of them all
    counts. BUDGET is a budget's id, as `budget list` shows it, or its full name.
    """


@budget.command(
    "set",
    cls=MeshCommand,
    examples=[
        Example("agentmesh budget set --window day --limit 25", "the tenant's day"),
        Example(
            "agentmesh budget set --task-type research --window month --limit 200"
            " --alert-at 80 --degrade-at 90",
            "a task type's month: told at 160 dollars, cheaper models from 180",
        ),
        Example("agentmesh budget set --session s1 --limit 2.50", "a session, for all of its time"),
        Example(
            "agentmesh budget set --window day --time-zone Europe/Berlin",
            "days begin at midnight in Berlin; all else stays as it is",
        ),
        Example(
            "agentmesh budget set --global --window month --limit 10000",
            "all tenants together",
        ),
    ],
)
@selection_options
@click.option("--limit", type=DOLLARS, metavar="DOLLARS", help="The most, such as 25 or 25.50.")
@click.option("--alert-at", type=PERCENT, metavar="PERCENT", help="Tell somebody from here on.")
@click.option(
    "--degrade-at", type=PERCENT, metavar="PERCENT", help="Use cheaper models from here on."
)
@click.option(
    "--throttle-at",
    type=PERCENT,
    metavar="PERCENT",
    help="Put off all but interactive work from here on.",
)
@click.option(
    "--shutoff-at",
    type=Percent(
        never_off="A budget refuses calls from 100 percent on, if not from less: it cannot be off."
        " For a budget that only tells, set a limit that is not reached, and --alert-at."
    ),
    metavar="PERCENT",
    help="Refuse calls from here on, at 100 the latest (default: 100); cannot be off.",
)
@click.option(
    "--time-zone", metavar="ZONE", help="Where its days begin, such as Europe/Berlin (UTC)."
)
@click.option("--etag", metavar="ETAG", help="Write only where the budget still has this etag.")
@click.option("--request-id", default="", metavar="ID", help="Makes the call repeatable.")
@pass_invocation
def set_(
    invocation: Invocation,
    selection: Selection,
    limit: int | None,
    alert_at: int | None,
    degrade_at: int | None,
    throttle_at: int | None,
    shutoff_at: int | None,
    time_zone: str | None,
    etag: str | None,
    request_id: str,
) -> None:
    """Set a budget, or change what is named of one; it counts from the next call on.

    Percentages are of the limit, from 0 to 100, rising from alert to shutoff; `off`
    turns one off, except shutoff. What was spent before in the window counts.
    """
    place = place_of(invocation, selection)
    percents = {
        "alert_percent": alert_at,
        "degrade_percent": degrade_at,
        "throttle_percent": throttle_at,
        "shutoff_percent": shutoff_at,
    }
    given = {name: percent for name, percent in percents.items() if percent is not None}
    if limit is None and time_zone is None and not given:
        raise Problem(
            "Say what to set, such as --limit 25.",
            "See `agentmesh budget set --help`.",
            exit_code=2,
        )

    from agentmesh.governor.v1.budget_pb2 import Budget
    from cli import budget_calls

    def edit(changed: Budget) -> None:
        if limit is not None:
            changed.limit_micros = limit
        if time_zone is not None:
            changed.time_zone = time_zone
        for name, percent in given.items():
            setattr(changed.thresholds, name, percent)

    budget_calls.set_budget(invocation, place, edit, etag=etag, request_id=request_id)


@budget.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh budget get tenant-day", "the tenant's day"),
        Example("agentmesh budget get --task-type research --window month", "a task type's month"),
    ],
)
@click.argument("name", metavar="[BUDGET]", required=False)
@selection_options
@pass_invocation
def get(invocation: Invocation, name: str | None, selection: Selection) -> None:
    """Print a budget: what it allows, what is spent and reserved, when it starts again."""
    full_name = name_of(invocation, name, selection)

    from cli import budget_calls

    budget_calls.get(invocation, full_name)


@budget.command(
    "list",
    cls=MeshCommand,
    examples=[
        Example("agentmesh budget list", "the tenant's"),
        Example("agentmesh budget list --all-tenants", "everybody's, and the global ones"),
    ],
)
@click.option(
    "--all-tenants", is_flag=True, help="Those of all tenants and the global ones; for operators."
)
@click.option(
    "--limit",
    type=click.IntRange(1, 100_000),
    default=1000,
    show_default=True,
    metavar="N",
    help="How many, by name.",
)
@pass_invocation
def list_(invocation: Invocation, all_tenants: bool, limit: int) -> None:
    """List budgets and where each stands.

    USED shows what is spent (█) and what is reserved (▓) of the limit.
    """
    from cli import budget_calls

    budget_calls.list_budgets(invocation, "tenants/-" if all_tenants else invocation.parent, limit)


@budget.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh budget explain", "a call that has no task type, agent or session"),
        Example(
            "agentmesh budget explain --task-type research --agent assistant --tier powerful"
            " --lane batch",
            "one in particular",
        ),
    ],
)
@click.option(
    "--task-type", default="", metavar="TYPE", help="Its task type (default: the agent's name)."
)
@click.option("--agent", default="", metavar="AGENT", help="The agent that makes it.")
@click.option("--session", default="", metavar="SESSION", help="The session it belongs to.")
@click.option("--task", default="", metavar="TASK", help="The task it belongs to.")
@click.option("--tier", type=click.Choice(list(TIERS)), help="The tier of model that is asked for.")
@click.option("--lane", type=click.Choice(list(LANES)), help="The lane the task came by.")
@pass_invocation
def explain(
    invocation: Invocation,
    task_type: str,
    agent: str,
    session: str,
    task: str,
    tier: str | None,
    lane: str | None,
) -> None:
    """Say which budgets a call would fall under, and which of them decides what.

    The answer is about the least of calls: a larger one may not fit any more, and
    what still fits is told.
    """
    from agentmesh.governor.v1.cost_governor_service_pb2 import ExplainBudgetRequest
    from cli import budget_calls

    budget_calls.explain(
        invocation,
        ExplainBudgetRequest(
            parent=invocation.parent,
            # As for a task that says none.
            task_type=task_type or agent.rpartition("/")[2].partition("@")[0],
            agent=agent,
            session=session,
            task=invocation.name("tasks", task) if task else "",
            tier=TIERS[tier] if tier else None,
            lane=LANES[lane] if lane else None,
        ),
    )


@budget.command(
    cls=MeshCommand,
    examples=[Example("agentmesh budget delete task-type-month-research", "no limit of its own")],
)
@click.argument("name", metavar="[BUDGET]", required=False)
@selection_options
@click.option("--etag", default="", metavar="ETAG", help="Only where it still has this etag.")
@pass_invocation
def delete(invocation: Invocation, name: str | None, selection: Selection, etag: str) -> None:
    """Remove a budget; the one that the tenant's tier gives, if any, is in force again."""
    full_name = name_of(invocation, name, selection)

    from cli import budget_calls

    budget_calls.delete(invocation, full_name, etag)
