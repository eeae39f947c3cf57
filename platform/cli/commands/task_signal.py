"""`agentmesh task signal`."""

import json
from pathlib import Path
from typing import Any, cast

import click

from cli.command import Example, MeshCommand, pass_invocation
from cli.invocation import Invocation
from cli.problem import Problem
from cli.text_file import read_text


@click.command(
    cls=MeshCommand,
    examples=[
        Example("agentmesh task signal 01k9x --approve", "let it make the tool call"),
        Example(
            "agentmesh task signal 01k9x --approve --last-sequence 4",
            "only the call that it waits with at event 4",
        ),
        Example(
            'agentmesh task signal 01k9x --reject "Not on a Friday."',
            "do not let it; the agent reads why",
        ),
        Example('agentmesh task signal 01k9x --input "The blue one."', "answer its question"),
        Example("""agentmesh task signal 01k9x --data '{"colour": "blue"}'""", "answer with data"),
    ],
)
@click.argument("name", metavar="TASK")
@click.option("--approve", is_flag=True, help="Let it make the tool call it waits with.")
@click.option("--comment", default="", metavar="TEXT", help="A remark for the log, to --approve.")
@click.option(
    "--reject", metavar="REASON", help="Do not let it make the call; the agent reads why."
)
@click.option("--input", "text", metavar="TEXT", help="The answer to its question.")
@click.option(
    "--input-file",
    type=click.Path(path_type=Path),
    metavar="FILE",
    help="The same, from a file.",
)
@click.option("--data", metavar="JSON", help="The answer as a JSON object; may go with --input.")
@click.option(
    "--last-sequence",
    type=click.IntRange(0),
    default=0,
    metavar="N",
    help="The last event you have seen: refuse if it waits for something later.",
)
@click.option("--request-id", default="", metavar="ID", help="Makes the signal repeatable.")
@pass_invocation
def signal(
    invocation: Invocation,
    name: str,
    approve: bool,
    comment: str,
    reject: str | None,
    text: str | None,
    input_file: Path | None,
    data: str | None,
    last_sequence: int,
    request_id: str,
) -> None:
    """Answer a task that waits for a person: approve, reject, or give it input.

    `agentmesh task list --waiting` shows which tasks wait, and for what. A task
    may meanwhile wait for something else: the command lines that `task get` and
    `task watch` print name the event at which it waits (`EVENTS` in the list,
    `last_sequence` with --json), and are refused then.
    """
    answered = text is not None or input_file is not None or data is not None
    if approve + (reject is not None) + answered != 1:
        raise Problem(
            "Say one of --approve, --reject REASON, --input TEXT, --input-file FILE, --data JSON.",
            "--data alone may go with an input.",
            exit_code=2,
        )
    if text is not None and input_file is not None:
        raise Problem("Give --input or --input-file, one of them.", exit_code=2)
    if comment and not approve:
        raise Problem("--comment goes with --approve alone.", exit_code=2)
    values = _object(data) if data is not None else None
    if input_file is not None:
        text = read_text(input_file)

    from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
    from cli import signal_calls

    sent = TaskSignal()
    if approve:
        sent.approval.comment = comment
        sent.approval.SetInParent()
    elif reject is not None:
        sent.rejection.reason = reject
        sent.rejection.SetInParent()
    else:
        sent.input.text = text or ""
        if values is not None:
            sent.input.data.update(values)
    signal_calls.signal(
        invocation, invocation.name("tasks", name), sent, request_id, last_sequence=last_sequence
    )


def _object(text: str) -> dict[str, Any]:
    try:
        value: Any = json.loads(text)
    except ValueError as error:
        raise Problem(f"--data is not JSON: {error}.", exit_code=2) from None
    if not isinstance(value, dict):
        raise Problem(f"--data must be a JSON object, not {text[:40]!r}.", exit_code=2)
    return cast(dict[str, Any], value)
