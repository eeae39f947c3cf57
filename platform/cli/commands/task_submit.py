"""`agentmesh task submit`."""

from pathlib import Path

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.task_input import checked_text
from cli.task_options import TaskOptions, task_options


@click.command(
    cls=MeshCommand,
    examples=[
        Example('agentmesh task submit "What is 17.5% of 2,480?" --wait', "wait for the answer"),
        Example(
            'agentmesh task submit "Nightly report" --lane batch --request-id report-2026-11-21',
            "the same id again finds the same task, and starts nothing twice",
        ),
        Example(
            "agentmesh task submit --batch tasks.jsonl --lane batch --request-id import-7",
            "a task for each line; again after a break, and none is started twice",
        ),
    ],
)
@click.argument("text", required=False)
@task_options
@click.option(
    "--parent", default="", metavar="TASK", help="The open task that this one is a child of."
)
@click.option("--request-id", default="", metavar="ID", help="Makes the submission repeatable.")
@click.option("--wait", is_flag=True, help="Follow the task to its end and print its result.")
@click.option(
    "--batch",
    type=click.Path(path_type=Path, dir_okay=False, allow_dash=True),
    metavar="FILE",
    help="Submit a task for each line of a JSON Lines file, or of stdin with -.",
)
@pass_invocation
def submit(
    invocation: Invocation,
    text: str | None,
    options: TaskOptions,
    parent: str,
    request_id: str,
    wait: bool,
    batch: Path | None,
) -> None:
    """Submit a task and print it.

    When this returns the task is stored durably: it will end, whatever crashes
    meanwhile. With `-` the text is read from stdin.

    A line of --batch is an object with the fields of a task as in the contract,
    and besides `text` or `data` for its input, and `request_id`:
    {"text": "What is 2 + 2?", "lane": "batch", "labels": {"run": "7"}}. Options
    hold for lines that do not say otherwise; --request-id is put before the
    line's number. The file is checked as a whole before anything is submitted.
    The exit code is 1 where a task was refused.
    """
    if (text is None) == (batch is None):
        raise Problem("Give TEXT or --batch, one of them.", exit_code=2)
    if batch is not None:
        if wait:
            raise Problem(
                "--wait does not go with --batch.", "Follow one with `task watch`.", exit_code=2
            )
        _submit_batch(invocation, batch, options, parent, request_id)
        return
    text = checked_text(text or "")

    from agentmesh.coordinator.v1.coordinator_service_pb2 import SubmitTaskRequest
    from cli import task_calls

    request = SubmitTaskRequest(parent=invocation.parent, request_id=request_id)
    request.task.input.text = text
    options.apply(request.task)
    if parent:
        request.task.parent_task = invocation.name("tasks", parent)
    if not task_calls.submit(invocation, request, wait=wait):
        raise click.exceptions.Exit(1)


def _submit_batch(
    invocation: Invocation, file: Path, options: TaskOptions, parent: str, request_id: str
) -> None:
    from agentmesh.coordinator.v1.task_pb2 import Task
    from cli import batch_calls, batch_file

    common = Task()
    options.apply(common)
    if parent:
        common.parent_task = invocation.name("tasks", parent)
    requests = batch_file.read(file, parent=invocation.parent, common=common, request_id=request_id)
    if not batch_calls.submit(invocation, requests):
        raise click.exceptions.Exit(1)
