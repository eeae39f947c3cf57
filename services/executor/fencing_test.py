"""An executor that wakes after its task moved on changes nothing."""

import asyncio

import pytest

from agentmesh.common.v1.conversation_pb2 import ToolResult
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_event_pb2 import TaskEvent
from agentmesh.reasoning.v1 import reasoning_service_pb2 as reasoning
from agentmesh.tool.v1 import tool_service_pb2 as tool
from meshkit.bus import Bus
from meshkit.errors import Conflict
from meshtest.eventually import eventually
from meshtest.hosting import hosting
from meshtest.scripted import registrations
from services.executor import main
from services.executor.executor_bench import Bench, kinds
from services.executor.settings import ExecutorSettings
from tasklog.partitions import Partitions
from tasklog.task_log import Entry, TaskLog

pytest_plugins = ["meshtest.fixtures", "services.executor.executor_bench"]


class _Watched(TaskLog):
    """Tells which appends were refused."""

    def __init__(self, bus: Bus, partitions: Partitions, refused: list[str]) -> None:
        super().__init__(bus, partitions)
        self._refused = refused

    async def append(self, tenant: str, task_id: str, event: TaskEvent, *, after: int) -> Entry:
        try:
            return await super().append(tenant, task_id, event, after=after)
        except Conflict:
            self._refused.append(event.WhichOneof("kind") or "")
            raise


class _Sleeper:
    """The first call to a service waits until it is told to go on; later ones do not."""

    def __init__(self) -> None:
        self.asleep = asyncio.Event()
        self.wake = asyncio.Event()

    async def maybe_sleep(self) -> None:
        if not self.asleep.is_set():
            self.asleep.set()
            await self.wake.wait()


@pytest.mark.parametrize("where", ["model", "tool", "last model"])
async def test_a_stale_executor_records_nothing(
    bench: Bench, where: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is cut off with a result in its hands; another one finishes; its append is refused."""
    sleeper = _Sleeper()
    refused: list[str] = []
    usual_answer, usual_execute = bench.models.answer, bench.tools.execute

    async def answer(request: reasoning.GenerateRequest) -> reasoning.GenerateResponse:
        if where == ("last model" if len(request.messages) > 2 else "model"):
            await sleeper.maybe_sleep()
        return await usual_answer(request)

    async def execute(request: tool.ExecuteToolRequest) -> ToolResult:
        if where == "tool":
            await sleeper.maybe_sleep()
        return await usual_execute(request)

    bench.models.answer, bench.tools.execute = answer, execute
    async with bench.proxy() as proxy:
        with monkeypatch.context() as patch:
            patch.setattr(main, "TaskLog", lambda bus, cut: _Watched(bus, cut, refused))  # pyright: ignore
            stale = hosting(
                [lambda resources: main.build(resources, ExecutorSettings())],
                data_dir=bench.folder,
                nats_url=bench.url_by(proxy),
                beside=registrations(bench.models, bench.tools, bench.memory),
            )
            await stale.__aenter__()
        try:
            task_id = await bench.submit()
            await asyncio.wait_for(sleeper.asleep.wait(), 60)
            proxy.refuse = True
            proxy.cut()
            sleeper.wake.set()
            async with bench.executor():
                task = await bench.ended(task_id)
                events = await bench.events(task_id)
                assert refused == []
                proxy.refuse = False
                await eventually(lambda: refused)
        finally:
            await stale.__aexit__(None, None, None)
    assert refused == [
        {"tool": "tool_called", "last model": "completed"}.get(where, "model_called")
    ]
    assert await bench.events(task_id) == events
    assert task.state == task_pb2.TASK_STATE_SUCCEEDED
    assert kinds(events).count("started") == 2
    assert kinds(events)[-1] == "completed"
    assert (kinds(events).count("model_called"), kinds(events).count("tool_called")) == (1, 1)
    # What it had asked for was asked for again, under the same key.
    assert len({each.idempotency_key for each in bench.tools.requests}) == 1


async def test_an_executor_that_starts_late_does_not_start_the_task_again(bench: Bench) -> None:
    """Its `started` is refused: the task ended while it read the log."""
    async with bench.executor():
        task_id = await bench.submit()
        await bench.ended(task_id)
    last = await bench.log.last("acme", task_id)
    (submitted, *_) = [entry async for entry in bench.log.read("acme", task_id)]
    event = TaskEvent(task=submitted.event.task, writer="executor/late", sequence=2)
    event.started.SetInParent()
    with pytest.raises(Conflict):
        await bench.log.append("acme", task_id, event, after=submitted.stream_sequence)
    assert await bench.log.last("acme", task_id) == last
