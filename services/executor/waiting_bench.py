"""Tasks that wait on the bench, and what a coordinator writes then; only for tests."""

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from google.protobuf import json_format

from agentmesh.common.v1 import conversation_pb2
from agentmesh.common.v1.conversation_pb2 import ToolCall
from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.coordinator.v1 import task_event_pb2, task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import ChildResult, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import TaskWait
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from meshtest.eventually import eventually
from meshtest.scripted import calls, says
from services.executor.executor_bench import Bench
from tasklog import lifecycle
from tasklog.partitions import WHOLE

AGENT = task_event_pb2.AgentSpec(
    name="tenants/acme/agents/a@1",
    instructions="x",
    max_steps=20,
    tools=["effect", "ask_person", "wait", "delegate"],
)
APPROVED = TaskSignal(approval=TaskSignal.Approval(comment="fine"), sender="ann")
REJECTED = TaskSignal(rejection=TaskSignal.Rejection(reason="too dear"), sender="ann")


def a_call(name: str, arguments: dict[str, Any], call_id: str = "c1") -> ToolCall:
    """A model's call of a tool."""
    call = ToolCall(call_id=call_id, tool=name)
    json_format.ParseDict(arguments, call.arguments)
    return call


def asks(bench: Bench, *first: ToolCall) -> None:
    """Has the model make these calls, and then answer with the results that it has read."""

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        results = [
            message.tool_result
            for message in request.messages
            if message.role == conversation_pb2.ROLE_TOOL
        ]
        if not results:
            return calls(*first)
        return says(
            "; ".join(f"{'error: ' if each.is_error else ''}{each.text}" for each in results)
        )

    bench.models.answer = answer


async def until_waiting(bench: Bench, task_id: str) -> TaskWait:
    """What the task waits for, once it does and nobody holds it."""

    async def waits() -> bool:
        last = await bench.log.last("acme", task_id)
        return last is not None and last.event.status.state == task_pb2.TASK_STATE_WAITING

    async def nothing_is_held() -> bool:
        held = [info["num_ack_pending"] async for info in bench.bus.consumers(WHOLE.stream)]
        return not any(held)

    await eventually(waits)
    await eventually(nothing_is_held)
    return (await bench.log.task("acme", task_id)).wait


async def resume(
    bench: Bench,
    task_id: str,
    *,
    signal: TaskSignal | None = None,
    expired: bool = False,
    results: Sequence[ChildResult] = (),
    waited: timedelta = timedelta(),
) -> None:
    """Writes what the coordinator would."""
    last = await bench.log.last("acme", task_id)
    assert last is not None
    event = lifecycle.new_event(last.event.task, "coordinator/test")
    event.resumed.expired = expired
    event.resumed.children.extend(results)
    if signal is not None:
        event.resumed.signal.CopyFrom(signal)
    usage = Usage()
    for result in results:
        lifecycle.add_usage(usage, result.usage)
    lifecycle.advance(
        last.event.status,
        event,
        sequence=last.event.sequence + 1,
        time=datetime.now(UTC) + waited,
        usage=usage,
    )
    await bench.log.append("acme", task_id, event, after=last.stream_sequence)
