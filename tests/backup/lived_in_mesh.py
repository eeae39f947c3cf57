"""A whole mesh in which a little of everything happens, with prices, and a tool that counts."""

import asyncio
import dataclasses
import importlib
from collections import Counter
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import pytest

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from agentmesh.governor.v1 import cost_governor_service_pb2 as governor_pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from agentmesh.governor.v1.usage_record_pb2 import UsageRecords
from agentmesh.memory.v1 import memory_service_pb2 as memory_pb
from agentmesh.memory.v1.document_pb2 import DocumentSource
from agentmesh.memory.v1.memory_service_pb2_grpc import MemoryServiceStub
from audit import api as audit
from audit import usage_jetstream
from audit.report import Report
from meshkit import redis_store
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from services.tool.calculator import CalculatorTool
from services.tool.tool import Answer, Effect, Invocation, ToolSpec
from tests.audit.later_clock import LaterClock
from tests.e2e.running_mesh import PARENT, Client, running
from tier.api import Tier

_PRICES: Final = Path("services/governor/prices.yaml")
_FREE: Final = "  offline: {input: 0, output: 0,"
_PRICED: Final = "  offline: {input: 1000000, output: 1000000,"
_ENDS_WITHIN_SECONDS: Final = 60.0
# What a model is asked for here always costs more than nothing.
_DOCUMENT: Final = "# Harbour\n\nThe lighthouse of Vardal is painted green and white.\n"


class Effects(CalculatorTool):
    """The calculator as a tool that changes something, and counts how often it did what."""

    def __init__(self) -> None:
        super().__init__()
        self.counts: Final = Counter[str]()

    @property
    def spec(self) -> ToolSpec:
        """The calculator's, but that it must not be called twice."""
        return dataclasses.replace(super().spec, effect=Effect.UNSAFE)

    async def execute(self, invocation: Invocation) -> Answer:
        """Fails the first time at 404, after what it did."""
        expression = str(invocation.arguments["expression"])
        self.counts[expression] += 1
        if "404" in expression and self.counts[expression] == 1:
            raise DependencyUnavailable("Nobody knows whether it was done.")
        return await super().execute(invocation)


class LivedInMesh:
    """Runs on one data directory, as often as a test likes."""

    def __init__(self, folder: Path) -> None:
        self.data_dir: Final = folder / "data"
        self.effects: Final = Effects()
        text = _PRICES.read_text("utf-8")
        assert _FREE in text, "else nothing would cost anything"
        prices = folder / "prices.yaml"
        prices.write_text(text.replace(_FREE, _PRICED), "utf-8")
        self._config: Final = folder / "mesh.yaml"
        self._config.write_text(
            f"governor: {{price_book: {prices}}}\nreasoning: {{price_book: {prices}}}\n"
        )

    @asynccontextmanager
    async def running(self) -> AsyncGenerator["Life"]:
        """The mesh, for as long as the block lasts."""
        with pytest.MonkeyPatch.context() as patch:
            tool: Any = importlib.import_module("services.tool.main")
            patch.setattr(tool, "CalculatorTool", lambda: self.effects)
            async with running(self.data_dir, Tier.PROTOTYPE, config=self._config) as client:
                yield Life(client)


class Life:
    """What happens in a mesh that runs."""

    def __init__(self, client: Client) -> None:
        self._client: Final = client
        ports = {each.name: each.ports[0] for each in client.mesh.state.processes if each.ports}
        self.nats_url: Final = f"nats://127.0.0.1:{ports['nats']}"
        self.redis_url: Final = f"redis://127.0.0.1:{ports['redis']}"

    async def submit(self, number: int, text: str = "") -> str:
        """The name of a task, the same for the same number."""
        task = Task(input=TaskInput(text=text or f"What is {number} * 7?"))
        request = pb.SubmitTaskRequest(parent=PARENT, task=task, request_id=f"number-{number}")
        return (await self._client.tasks.SubmitTask(request, timeout=20)).task.name

    async def work(self, first: int, enough: Callable[[], bool]) -> dict[int, str]:
        """Has tasks done, a few at a time, until there are enough; their names."""
        accepted: dict[int, str] = {}
        number = first
        while not enough():
            numbers = range(number, number + 4)
            names = await asyncio.gather(*(self.submit(each) for each in numbers))
            accepted.update(zip(numbers, names, strict=True))
            number += 4
            await asyncio.gather(*(self.ends(name) for name in names))
        return accepted

    async def state(self, name: str) -> task_pb2.TaskState:
        """Of a task."""
        return (await self._client.get(name)).state

    async def reaches(self, name: str, state: task_pb2.TaskState) -> None:
        """Returns when a task is in that state."""

        async def there() -> bool:
            task = await self._client.get(name)
            assert task.state == state, task
            return True

        await eventually(there, _ENDS_WITHIN_SECONDS)

    async def ends(self, name: str) -> None:
        """Returns when a task has succeeded; has calls repeated of which nobody knows the outcome.

        Those that were under way when the mesh was saved may have been made.
        """

        async def there() -> bool:
            task = await self._client.get(name)
            if task.state == task_pb2.TASK_STATE_WAITING:
                assert task.wait.approval.outcome_unknown, task
                await self.approve(name)
            assert task.state == task_pb2.TASK_STATE_SUCCEEDED, task
            return True

        await eventually(there, _ENDS_WITHIN_SECONDS)

    async def approve(self, name: str) -> None:
        """Lets a task go on that does not know what became of its call."""
        request = pb.SignalTaskRequest(name=name, request_id="approval")
        request.signal.approval.SetInParent()
        await self._client.tasks.SignalTask(request, timeout=20)

    async def add_document(self, uri: str = "harbour.md", text: str = _DOCUMENT) -> None:
        """Stores a document, or another version of it."""
        source = DocumentSource(uri=uri, content=text.encode())
        request = memory_pb.UpsertDocumentsRequest(parent=PARENT, documents=[source])
        answer = await self._memory.UpsertDocuments(request, timeout=60)
        assert not answer.results[0].HasField("error"), answer

    async def found(self, query: str) -> list[str]:
        """The texts of the passages that fit best."""
        request = memory_pb.SearchRequest(parent=PARENT, query=query)
        return [each.text for each in (await self._memory.Search(request, timeout=60)).passages]

    async def spent_micros(self) -> int:
        """What the counters say of this day."""
        stub: Any = CostGovernorServiceStub(self._client.channels.get("gateway"))
        request = governor_pb.GetSpendRequest(parent=PARENT)
        return int((await stub.GetSpend(request, timeout=20)).day.spent_micros)

    async def charged(self) -> dict[str, int]:
        """What the journal has for each key."""
        found: dict[str, int] = {}
        async with await Bus.connect(self.nats_url, name="test") as bus:
            async for message in bus.read(usage_jetstream.STREAM, usage_jetstream.SUBJECT):
                for record in UsageRecords.FromString(message.payload).records:
                    found.setdefault(record.key, record.usage.cost_micros)
        return found

    async def audit(self, data_dir: Path) -> Report:
        """All promises, looked at when everything has arrived."""
        redis = redis_store.connect(self.redis_url)
        try:
            async with await Bus.connect(self.nats_url, name="audit") as bus:
                return await audit.run(
                    bus,
                    redis,
                    ledger=str(data_dir / "governor" / "ledger.sqlite"),
                    clock=LaterClock(),
                    read_blobs=True,
                )
        finally:
            await redis.aclose()

    @property
    def _memory(self) -> Any:
        return MemoryServiceStub(self._client.channels.get("gateway"))
