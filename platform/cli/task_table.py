"""Tasks as people read them."""

from collections.abc import Sequence
from datetime import UTC, datetime
from typing import Final

from google.protobuf.timestamp_pb2 import Timestamp

from agentmesh.coordinator.v1.task_pb2 import Task
from cli.event_line import lane_name, wait_text
from cli.invocation import Invocation
from cli.task_state import state_name
from cli.terminal import Terminal
from cli.waiting import answers, child_rows, end_text
from cli.wording import dollars, moment, seconds, shorten

_INPUT_COLUMN: Final = 60
_INPUT_FIELD: Final = 200


def show_tasks(terminal: Terminal, tasks: Sequence[Task]) -> None:
    """A line for each task."""
    if not tasks:
        terminal.say("There are no such tasks.")
        return
    terminal.table(
        ("TASK", "STATE", "AGENT", "LANE", "CREATED", "TOOK", "COST", "INPUT"),
        [
            (
                task.name.rsplit("/", 1)[-1],
                state_name(task.state),
                _agent(task),
                lane_name(task.lane),
                _moment(task.create_time),
                _took(task),
                dollars(task.usage.cost_micros),
                shorten(task.input.text, _INPUT_COLUMN),
            )
            for task in tasks
        ],
        right=("TOOK", "COST"),
        one_line=True,
    )


def show_waiting(terminal: Terminal, tasks: Sequence[Task]) -> None:
    """A line for each waiting task, with what it waits for."""
    if not tasks:
        terminal.say("No task waits.")
        return
    terminal.table(
        ("TASK", "AGENT", "CREATED", "UNTIL", "EVENTS", "WAITS"),
        [
            (
                task.name.rsplit("/", 1)[-1],
                _agent(task),
                _moment(task.create_time),
                _moment(task.wait.expire_time) if task.wait.HasField("expire_time") else "-",
                str(task.last_sequence),
                wait_text(task.wait),
            )
            for task in tasks
        ],
    )


def show_task(invocation: Invocation, task: Task, children: Sequence[Task] = ()) -> None:
    """All about one task, its output last; `children` are those that it waits for."""
    terminal = invocation.terminal
    usage = task.usage
    terminal.fields(
        [
            ("Task", task.name),
            ("State", state_name(task.state)),
            ("Waits", wait_text(task.wait)),
            ("Until", end_text(task.wait, datetime.now(UTC))),
            ("Answer", "\n".join(answers(invocation, task))),
            ("Error", task.error.message),
            ("Agent", _agent(task)),
            ("Lane", lane_name(task.lane)),
            ("Session", task.session),
            ("Labels", ", ".join(f"{key}={value}" for key, value in sorted(task.labels.items()))),
            ("Parent", task.parent_task),
            ("Schedule", task.schedule),
            ("Created", _moment(task.create_time)),
            ("Took", _took(task)),
            ("Attempt", str(task.attempt)),
            ("Steps", str(task.steps)),
            ("Tokens", f"{usage.input_tokens:,} in, {usage.output_tokens:,} out"),
            ("Cost", dollars(usage.cost_micros)),
            ("Events", str(task.last_sequence)),
            ("Notes", "\n".join(note.text for note in task.notes)),
            ("Input", shorten(task.input.text, _INPUT_FIELD)),
        ]
    )
    if children:
        terminal.say()
        terminal.table(("CHILD", "STATE", "INPUT"), child_rows(children), one_line=True)
    if task.output.text:
        terminal.say()
        terminal.markdown(task.output.text)


def _agent(task: Task) -> str:
    """`assistant@1` of the agent's full name."""
    return task.agent.rsplit("/", 1)[-1]


def _took(task: Task) -> str:
    if not task.HasField("end_time"):
        return "-"
    return seconds((task.end_time.ToNanoseconds() - task.create_time.ToNanoseconds()) / 1e9)


def _moment(time: Timestamp) -> str:
    return moment(time.ToDatetime(tzinfo=UTC))
