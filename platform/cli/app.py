"""The commands there are."""

import click

from cli.command import Example, RootGroup
from tier.version import VERSION

_COMMANDS = {
    "ask": ("cli.commands.ask:ask", "Ask an agent and print its answer with sources and cost."),
    "up": ("cli.commands.up:up", "Start a mesh on this machine."),
    "down": ("cli.commands.down:down", "Stop the mesh that `up` started."),
    "scale": ("cli.commands.scale:scale", "Change how many processes a part has."),
    "status": ("cli.commands.status:status", "Show what runs and how it is."),
    "logs": ("cli.commands.logs:logs", "Show what the mesh's processes wrote."),
    "doctor": ("cli.commands.doctor:doctor", "Check this machine for what a mesh needs."),
    "task": ("cli.commands.task:task", "Submit, follow, list, signal and cancel tasks."),
    "dlq": ("cli.commands.dlq:dlq", "List, show, redrive and discard dead letters."),
    "schedule": ("cli.commands.schedule:schedule", "Submit tasks at set times."),
    "queue": ("cli.commands.queues:queue", "See the queues, and change their limits."),
    "read-model": (
        "cli.commands.read_model:read_model",
        "See the copy that lists come from, and build it again.",
    ),
    "policy": ("cli.commands.policy:policy", "See who may call what, and check a change to it."),
    "key": ("cli.commands.key:key", "Make, list and revoke the keys that callers show."),
    "agent": ("cli.commands.agent:agent", "List, show, create and update agents."),
    "docs": ("cli.commands.docs:docs", "Add, search and remove documents."),
    "tool": ("cli.commands.tool:tool", "List and call tools."),
    "model": ("cli.commands.model:model", "List models, and see whether they answer."),
    "budget": ("cli.commands.budget:budget", "Limit what is spent, and see what is left."),
    "spend": ("cli.commands.spend:spend", "Show what was spent, on what, and where that leads."),
    "alerts": ("cli.commands.alerts:alerts", "Show alerts about spending."),
    "bench": ("cli.commands.bench:bench", "Measure what a mesh does on this machine."),
    "audit": ("cli.commands.audit:audit", "Prove that nothing was lost, and nothing done twice."),
    "backup": ("cli.commands.backup:backup", "Save all that the mesh keeps in one file."),
    "restore": ("cli.commands.restore:restore", "Restore a backup into an empty data directory."),
}


@click.group(
    cls=RootGroup,
    lazy=_COMMANDS,
    context_settings={"help_option_names": ["-h", "--help"], "max_content_width": 100},
    examples=[
        Example(
            'agentmesh ask "Which of our runbooks mentions rate limits?" --docs docs/',
            "ask, with the documents of a folder; starts a mesh for the time of the question",
        ),
        Example("agentmesh up --detach", "keep a mesh running in the background"),
        Example('agentmesh task submit "What is 17.5% of 2,480?" --wait', "give it work"),
        Example("agentmesh down", "stop it; its state stays"),
    ],
)
@click.version_option(VERSION, prog_name="agentmesh")
def app() -> None:
    """Run AI agents through a mesh of services: durable tasks, tools, memory, budgets.

    Every command takes --json. Results go to stdout, progress and errors to
    stderr; the exit code is 0, 1 for a failure, 2 for wrong usage, 3 where a task
    keeps waiting for a person, 130 for Ctrl-C.
    """
