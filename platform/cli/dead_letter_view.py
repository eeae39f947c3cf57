"""Dead letters as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import DeadLetter
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.event_line import event_line, lane_name
from cli.invocation import Invocation
from cli.run_view import line_text
from cli.terminal import Terminal
from cli.wording import dollars, plural, seconds, shorten, zoned_moment
from meshkit.errors import from_status

_INPUT: Final = 200
_LINE: Final = 160
# The beginning of a long history, and its end, which says why it failed.
_FIRST: Final = 3
_LAST: Final = 25


def show_dead_letters(terminal: Terminal, letters: Sequence[DeadLetter], now: datetime) -> None:
    """A line for each dead letter."""
    if not letters:
        terminal.say("There are no such dead letters.")
        return
    terminal.table(
        ("TASK", "LANE", "AGE", "ATTEMPTS", "REASON", "ERROR"),
        [
            (
                letter.task.name.rpartition("/")[2],
                lane_name(letter.task.lane),
                seconds(max(0.0, (now - letter.time.ToDatetime(tzinfo=UTC)).total_seconds())),
                str(letter.task.attempt),
                letter.reason,
                letter.task.error.message,
            )
            for letter in letters
        ],
        right=("ATTEMPTS",),
        one_line=True,
    )


def show_dead_letter(invocation: Invocation, task: Task, events: Sequence[TaskEvent]) -> None:
    """Why a task failed, its history in short, and what can be done."""
    terminal = invocation.terminal
    task_id = task.name.rpartition("/")[2]
    terminal.fields(
        [
            ("Task", task.name),
            ("Error", task.error.message),
            ("Reason", from_status(task.error).reason),
            ("Attempts", str(task.attempt)),
            ("Since", zoned_moment(task.end_time.ToDatetime(tzinfo=UTC))),
            ("Agent", task.agent.rpartition("/")[2]),
            ("Lane", lane_name(task.lane)),
            ("Parent", task.parent_task),
            ("Cost", dollars(task.usage.cost_micros)),
            ("Input", shorten(task.input.text, _INPUT)),
        ]
    )
    terminal.say()
    terminal.say("History", style="bold")
    left_out = len(events) - _FIRST - _LAST
    for event in events[:_FIRST] if left_out > 0 else events:
        _print(terminal, event)
    if left_out > 0:
        terminal.say(
            f"        … {plural(left_out, 'event')} more,"
            f" see `{invocation.command('task', 'events', task_id)}`"
        )
        for event in events[-_LAST:]:
            _print(terminal, event)
    terminal.say()
    terminal.say(f"Put it back  {invocation.command('dlq', 'redrive', task_id)}")
    terminal.say(f"Discard it   {invocation.command('dlq', 'discard', task_id)}")


def _print(terminal: Terminal, event: TaskEvent) -> None:
    terminal.say(f"{event.sequence:>6}  {line_text(event_line(event), _LINE)}")
