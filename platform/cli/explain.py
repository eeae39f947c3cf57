"""From any exception to the report that the user reads. Loaded only when something failed."""

from typing import Final

import click

from cli.problem import Problem, Report
from meshkit.mesh_error import MeshError
from tier.api import MeshStartError

# What to do about a reason, where its message does not say so already.
_REMEDIES: Final = {
    "TASK_NOT_FOUND": "See `agentmesh task list` for the tasks there are.",
    "TASK_STATE": "See `agentmesh task get TASK` for where it stands.",
    "DEAD_LETTER_NOT_FOUND": "See `agentmesh dlq list` for the dead letters there are.",
    "SCHEDULE_NOT_FOUND": "See `agentmesh schedule list` for the schedules there are.",
    "AGENT_NOT_FOUND": "See `agentmesh agent list` for the agents there are.",
    "TOOL_NOT_FOUND": "See `agentmesh tool list` for the tools there are.",
    "MODEL_NOT_FOUND": "See `agentmesh model list` for the models there are.",
    "INVALID_TOOL_ARGUMENTS": "See `agentmesh tool list --json` for the arguments it takes.",
    "REQUEST_ID_REUSED": "Choose another --request-id, or repeat the first request unchanged.",
    "QUEUE_FULL": "See `agentmesh queue stats` for how the queues stand.",
    "RATE_LIMITED": "See `agentmesh queue policy` for the limits.",
    "BUDGET_EXHAUSTED": "See `agentmesh budget list` for where the budgets stand.",
    "BUDGET_NOT_FOUND": "See `agentmesh budget list` for the budgets there are.",
    "DEPENDENCY_UNAVAILABLE": "See `agentmesh status` for what is down.",
    "DEADLINE_EXCEEDED": "See `agentmesh status` for what is slow or down.",
    "API_KEY_NOT_FOUND": "See `agentmesh key list` for the keys there are.",
    "UNAUTHENTICATED": "Call with --key FILE, or set AGENTMESH_API_KEY.",
    "INTERNAL": "See `agentmesh logs` for the cause.",
}


def explain(error: BaseException) -> Report:
    """The report of `error`; its exit code is 1, 2 for wrong usage, 130 for an interruption."""
    match error:
        case KeyboardInterrupt() | click.Abort():
            return Report("Interrupted.", exit_code=130)
        case Problem():
            return Report(error.message, error.remedy, error.exit_code)
        case click.UsageError():
            command = error.ctx.command_path if error.ctx else "agentmesh"
            return Report(error.format_message(), f"See `{command} --help`.", error.exit_code)
        case click.ClickException():
            return Report(error.format_message(), exit_code=error.exit_code)
        case MeshError():
            return _of_mesh(error)
        case MeshStartError():
            return Report(str(error))
        case OSError():
            where = f"{error.filename}: " if error.filename else ""
            return Report(f"{where}{error.strerror or error}")
        case _:
            return Report(
                f"The command failed inside: {type(error).__name__}: {error}",
                "Run it again with AGENTMESH_DEBUG=1 for the trace.",
            )


def _of_mesh(error: MeshError) -> Report:
    remedy = _REMEDIES.get(error.reason, "")
    command = remedy.split("`")[1] if "`" in remedy else ""
    return Report(
        message=error.message,
        # The service may have said so itself.
        remedy="" if command and command in error.message else remedy,
        code=error.code.name,
        reason=error.reason,
        violations=[(each.field, each.description) for each in error.violations],
        retry_after_seconds=error.retry_after_seconds,
        metadata=error.metadata,
    )
