"""The call of `agentmesh task signal`, and what it prints."""

import uuid

from agentmesh.coordinator.v1.coordinator_service_pb2 import SignalTaskRequest
from agentmesh.coordinator.v1.task_event_pb2 import TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task
from cli.gateway import CALL_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.plain import to_plain
from cli.task_state import state_name

_DONE = {"approval": "approved", "rejection": "rejected", "input": "answered"}


async def send(
    gateway: Gateway, name: str, signal: TaskSignal, request_id: str = "", *, last_sequence: int
) -> Task:
    """Sends a signal, and answers the task after it.

    It is for what the task waits for at its event `last_sequence`, the last one that the
    person has seen; 0 for whatever it waits for.
    """
    # A call that breaks is repeated under the same id, and counts once.
    request = SignalTaskRequest(
        name=name,
        signal=signal,
        request_id=request_id or f"cli-{uuid.uuid4()}",
        last_sequence=last_sequence,
    )
    return (await gateway.coordinator.SignalTask(request, timeout=CALL_SECONDS)).task


def signal(
    invocation: Invocation, name: str, sent: TaskSignal, request_id: str, *, last_sequence: int
) -> None:
    """Sends a signal and prints where the task stands then."""

    async def run(gateway: Gateway) -> Task:
        return await send(gateway, name, sent, request_id, last_sequence=last_sequence)

    task = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"task": to_plain(task)})
    else:
        done = _DONE[sent.WhichOneof("kind") or ""]
        invocation.terminal.say(f"{task.name} is {done}; it is {state_name(task.state)}.")
