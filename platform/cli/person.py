"""The person at the terminal answers what a task waits for."""

from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskWait
from cli.event_line import call_text
from cli.terminal import Terminal


async def ask(terminal: Terminal, wait: TaskWait) -> TaskSignal | None:
    """What the person says to `wait`; None where they leave it for later."""
    if wait.WhichOneof("reason") == "input":
        return await _ask_for_input(terminal, wait)
    return await _ask_for_approval(terminal, wait)


async def _ask_for_input(terminal: Terminal, wait: TaskWait) -> TaskSignal | None:
    terminal.say(wait.input.question, style="bold yellow")
    said = await terminal.ask("Your answer, or Enter to answer later: ")
    if not said:
        return None
    signal = TaskSignal()
    signal.input.text = said
    return signal


async def _ask_for_approval(terminal: Terminal, wait: TaskWait) -> TaskSignal | None:
    approval = wait.approval
    terminal.say(call_text(approval.call.tool, approval.call.arguments), style="bold yellow")
    terminal.say(approval.why, style="yellow")
    signal = TaskSignal()
    while True:
        said = await terminal.ask("Approve? [y]es, [n]o, or Enter to decide later: ")
        match said.lower():
            case "":
                return None
            case "y" | "yes":
                signal.approval.SetInParent()
                return signal
            case "n" | "no":
                signal.rejection.reason = await terminal.ask("Why not? The agent reads it: ")
                return signal
            case _:
                pass
