"""Spending as people read it."""

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from typing import Final

from agentmesh.governor.v1.cost_governor_service_pb2 import (
    GetSpendResponse,
    ProjectSpendResponse,
    SpendDimension,
    SpendProjection,
    SpendRow,
    SpendWindow,
)
from cli.budget_view import used
from cli.chart import bar, columns
from cli.terminal import Styled, Terminal
from cli.wording import dollars, plural, zoned_moment

# Days that the chart shows.
DAYS: Final = 14
_BAR_WIDTH: Final = 12
_CHART_HEIGHT: Final = 4
_EXPECTED_DIGITS: Final = 4
_CENT_MICROS: Final = 10_000
_TIMES: Final = (SpendDimension.SPEND_DIMENSION_DAY, SpendDimension.SPEND_DIMENSION_HOUR)
_OVERVIEW: Final = ("WINDOW", "SPENT", "RESERVED", "LIMIT", "USED", "BY ITS END", "RESETS")
_FIGURES: Final = (
    "COST",
    "SHARE",
    "MODEL CALLS",
    "TOKENS IN",
    "TOKENS OUT",
    "TASKS",
    "PER TASK",
    "PER SUCCESS",
)


def show_overview(
    terminal: Terminal,
    present: GetSpendResponse,
    projection: ProjectSpendResponse,
    days: Sequence[SpendRow],
    now: datetime,
) -> None:
    """Today and this month, the last days as a chart, and where it leads."""
    windows = (
        ("today", present.day, projection.day),
        ("this month", present.month, projection.month),
    )
    terminal.table(
        _OVERVIEW,
        [_window_row(*each) for each in windows],
        right=[each for each in _OVERVIEW if each not in ("WINDOW", "USED", "RESETS")],
    )
    if days:
        terminal.say()
        _show_days(terminal, days, now)
    terminal.say()
    for name, window, projected in windows:
        usage = window.usage
        terminal.say(
            f"{name.capitalize()}: {plural(usage.model_calls, 'model call')},"
            f" {usage.input_tokens:,} tokens in, {usage.output_tokens:,} out."
        )
        _show_projection(terminal, name, projected)


def in_order(rows: Sequence[SpendRow], group_by: Sequence[SpendDimension]) -> Sequence[SpendRow]:
    """The dearest first, or in order of time, as they come, where that groups first."""
    if group_by and group_by[0] in _TIMES:
        return rows
    return sorted(rows, key=lambda row: -row.usage.cost_micros)


def show_rows(
    terminal: Terminal,
    rows: Sequence[SpendRow],
    limit: int,
    group_by: Sequence[SpendDimension],
    since: datetime,
    until: datetime | None,
) -> None:
    """A line for each of the first groups, and what all cost together."""
    whole = _span(since, until)
    if not rows:
        terminal.say(f"Nothing was spent {whole}.")
        return
    total = sum(row.usage.cost_micros for row in rows)
    most = max(row.usage.cost_micros for row in rows)
    terminal.progress(f"Spent {dollars(total)} {whole}.")
    names = [_dimension(each) for each in group_by]
    terminal.table(
        (*names, *_FIGURES),
        [
            (
                *(value or "-" for value in row.group),
                dollars(row.usage.cost_micros),
                Styled(_share(row.usage.cost_micros, total, most), "cyan"),
                f"{row.usage.model_calls:,}",
                f"{row.usage.input_tokens:,}",
                f"{row.usage.output_tokens:,}",
                f"{row.tasks:,}",
                _mean(row, "cost_micros_per_task"),
                _mean(row, "cost_micros_per_succeeded_task"),
            )
            for row in rows[:limit]
        ],
        right=[each for each in _FIGURES if each != "SHARE"],
    )


def show_sum(
    terminal: Terminal, rows: Sequence[SpendRow], since: datetime, until: datetime | None
) -> None:
    """What was spent in a time, all together."""
    whole = _span(since, until)
    spent = sum(row.usage.cost_micros for row in rows)
    calls = sum(row.usage.model_calls for row in rows)
    terminal.say(f"Spent {dollars(spent)} {whole}, in {plural(calls, 'model call')}.")
    terminal.say("Say --by day, or --by model, for more.", style="dim")


def _span(since: datetime, until: datetime | None) -> str:
    return f"from {zoned_moment(since)}" + (f" to {zoned_moment(until)}" if until else "")


def _window_row(
    name: str, window: SpendWindow, projection: SpendProjection
) -> tuple[str | Styled, ...]:
    limit = window.limit_micros
    over = bool(limit) and projection.projected_micros > limit
    resets = (
        zoned_moment(window.resets_at.ToDatetime(tzinfo=UTC))
        if window.HasField("resets_at")
        else "-"
    )
    return (
        name,
        dollars(window.spent_micros),
        dollars(window.reserved_micros),
        dollars(limit) if limit else "none",
        used(window.spent_micros, window.reserved_micros, limit, _BAR_WIDTH) if limit else "-",
        Styled(_about(projection.projected_micros), "bold red" if over else "")
        if projection.method
        else "-",
        resets,
    )


def _show_days(terminal: Terminal, rows: Sequence[SpendRow], now: datetime) -> None:
    """The last days as columns; one without spending is there all the same."""
    costs = {row.group[0][:10]: row.usage.cost_micros for row in rows if row.group}
    last = max(now.astimezone().date().isoformat(), *costs)
    end = date.fromisoformat(last)
    shown = [(end - timedelta(days=back)).isoformat() for back in reversed(range(DAYS))]
    values = [costs.get(day, 0) for day in shown]
    scale = dollars(max(values))
    for number, line in enumerate(columns(values, height=_CHART_HEIGHT)):
        label = scale if number == 0 else ""
        terminal.say(f"{label:>{len(scale)}} |{'  '.join(line)}".rstrip(), style="cyan")
    axis = f"{shown[0]}{shown[-1]:>{3 * DAYS - 2 - len(shown[0])}}"
    terminal.say(f"{'':{len(scale)}}  {axis}", style="dim")


def _show_projection(terminal: Terminal, name: str, projection: SpendProjection) -> None:
    if not projection.method:
        return
    if projection.HasField("limit_reached_at"):
        reached = zoned_moment(projection.limit_reached_at.ToDatetime(tzinfo=UTC))
        terminal.say(
            f"The limit of {name} is reached at {reached} if spending goes on like this.",
            style="yellow",
        )
    terminal.say(f"By the end of {name}: {projection.method}", style="dim")


def _share(cost: int, total: int, most: int) -> str:
    """A bar against the dearest, and the percentage of all; hardly anything has no bar."""
    percent = 100 * cost / total if total else 0.0
    if 0 < percent < 1:
        return f"{bar((0,), most, _BAR_WIDTH)} <1 %"
    return f"{bar((cost,), most, _BAR_WIDTH)} {percent:.0f} %"


def _about(micros: int) -> str:
    """What is only expected: to four digits, and large amounts to the cent."""
    unit = min(10 ** max(0, len(str(micros)) - _EXPECTED_DIGITS), _CENT_MICROS)
    return dollars((micros + unit // 2) // unit * unit)


def _mean(row: SpendRow, field: str) -> str:
    return dollars(round(getattr(row, field))) if row.HasField(field) else "-"


def _dimension(dimension: SpendDimension) -> str:
    return SpendDimension.Name(dimension).removeprefix("SPEND_DIMENSION_").replace("_", " ")
