"""Schedules as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final
from zoneinfo import ZoneInfo

from cronsim import CronSim

from agentmesh.coordinator.v1.schedule_service_pb2 import (
    MissedRunPolicy,
    OverlapPolicy,
    Schedule,
    ScheduledRun,
)
from cli.event_line import lane_name
from cli.terminal import Terminal
from cli.wording import plural, seconds, shorten, zoned_moment

_NEXT_RUNS: Final = 3
_INPUT_COLUMN: Final = 60
_INPUT_FIELD: Final = 200


def show_schedules(terminal: Terminal, schedules: Sequence[Schedule], now: datetime) -> None:
    """A line for each schedule."""
    if not schedules:
        terminal.say("There are no schedules.")
        return
    terminal.table(
        ("SCHEDULE", "CRON", "ZONE", "NEXT RUN", "LAST RUN", "INPUT"),
        [
            (
                each.name.rpartition("/")[2],
                each.cron,
                each.time_zone or "UTC",
                next(iter(_next_runs(each, now)), "paused" if each.paused else "-"),
                _run_text(each.last_run) if each.HasField("last_run") else "-",
                shorten(each.task.input.text, _INPUT_COLUMN),
            )
            for each in schedules
        ],
        one_line=True,
    )


def show_schedule(terminal: Terminal, schedule: Schedule, now: datetime) -> None:
    """All about one schedule."""
    task = schedule.task
    terminal.fields(
        [
            ("Schedule", schedule.name),
            ("Cron", f"{schedule.cron} ({schedule.time_zone or 'UTC'})"),
            ("Next runs", "paused" if schedule.paused else "\n".join(_next_runs(schedule, now))),
            ("Last run", _run_text(schedule.last_run) if schedule.HasField("last_run") else ""),
            ("Missed", _word(MissedRunPolicy.Name(schedule.missed_runs), "run-last")),
            ("Overlap", _word(OverlapPolicy.Name(schedule.overlap), "allow")),
            ("Agent", task.agent.rpartition("/")[2]),
            ("Lane", lane_name(task.lane) if task.lane else ""),
            ("Priority", str(task.priority) if task.priority else ""),
            ("Session", task.session),
            ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(task.labels.items()))),
            ("Input", shorten(task.input.text, _INPUT_FIELD)),
        ]
    )


def _next_runs(schedule: Schedule, now: datetime) -> list[str]:
    """The next times; the first is the mesh's word, the others follow from the expression."""
    if not schedule.HasField("next_run_time"):
        return []
    time = schedule.next_run_time.ToDatetime(tzinfo=UTC)
    later = CronSim(schedule.cron, time.astimezone(ZoneInfo(schedule.time_zone or "UTC")))
    times = [time, *(each for each, _ in zip(later, range(_NEXT_RUNS - 1), strict=False))]
    return [
        f"{zoned_moment(each)} (in {seconds(max(0.0, (each - now).total_seconds()))})"
        for each in times
    ]


def _run_text(run: ScheduledRun) -> str:
    text = zoned_moment(run.time.ToDatetime(tzinfo=UTC))
    if run.skipped:
        text += ", left out: the run before was open"
    elif run.HasField("error"):
        text += f", refused: {run.error.message}"
    elif run.task:
        text += f", task {run.task.rpartition('/')[2]}"
    return f"{text}, after {plural(run.missed, 'missed time')}" if run.missed else text


def _word(name: str, unspecified: str) -> str:
    """`run-last` of `MISSED_RUN_POLICY_RUN_LAST`."""
    word = name.partition("POLICY_")[2].lower().replace("_", "-")
    return unspecified if word == "unspecified" else word
