"""Executors that only write down what they would run, on a real broker; only for tests."""

import asyncio
import io
from collections import Counter
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import AsyncExitStack, asynccontextmanager

import pytest

from agentmesh.coordinator.v1.queue_service_pb2 import QueuePolicy
from meshkit import log
from meshkit.bus import Bus
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from services.executor.held import Held
from services.executor.worker import Worker
from tasklog.partitions import WHOLE, Partitions
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tasklog.queues import Queues
from tasklog.subjects import Queue


class Script:
    """Runs every task by writing down its subject; holds them while `gate` is shut."""

    def __init__(self) -> None:
        self.begun: list[str] = []
        self.done: list[str] = []
        self.busy = Counter[str]()
        self.most = Counter[str]()
        self.gate = asyncio.Event()
        self.gate.set()

    async def run(self, held: Held) -> None:
        """As long as it takes to let others on, and to open the gate."""
        _, tenant, _, token = held.latest.subject.split(".")
        self.begun.append(held.latest.subject)
        for each in (tenant, token):
            self.busy[each] += 1
            self.most[each] = max(self.most[each], self.busy[each])
        try:
            await asyncio.sleep(0)
            await self.gate.wait()
            await held.acknowledge()
            self.done.append(held.latest.subject)
        finally:
            self.busy.subtract((tenant, token))

    def cancel(self, tenant: str, task_id: str) -> None:
        """Nobody asks for it here."""


class Mesh:
    """A broker, who submits, and executors that come and go."""

    def __init__(self, nats: NatsServer, bus: Bus, policies: PolicyStore) -> None:
        self.nats = nats
        self.bus = bus
        self.policies = policies
        self.queues = Queues(bus, Partitions(), policies)
        self.script = Script()
        self.lines = io.StringIO()
        self._count = 0

    async def submit(self, queue: Queue, tasks: int = 1, *, is_told: bool = True) -> None:
        """Stores what makes tasks runnable; tells executors of it or not."""
        await self.queues.ensure(queue)
        first, self._count = self._count, self._count + tasks
        for start in range(first, self._count, 200):
            names = range(start, min(start + 200, self._count))
            await asyncio.gather(*(self._store(queue, f"t{name}") for name in names))
        for _ in range(tasks if is_told else 0):
            await self.bus.signal(queue.wake, b"")

    async def _store(self, queue: Queue, name: str) -> None:
        subject = WHOLE.of_queue(queue).replace("*", name)
        await self.bus.append(subject, b"", expected_last=0)

    async def limit(self, **changes: int) -> None:
        """Puts a policy in force: `workers`, `shared`, `concurrent` of a tenant."""
        await self.policies.set(_policy(**changes))

    @asynccontextmanager
    async def executor(self, url: str = "") -> AsyncGenerator[Worker]:
        """An executor on a connection of its own, for as long as the block lasts."""
        async with AsyncExitStack() as stack:
            connecting = Bus.connect(url or self.nats.url, name="executor")
            bus = await stack.enter_async_context(await connecting)
            policies = PolicyStore(bus)
            await policies.prepare()
            worker = Worker(
                bus=bus,
                partitions=Partitions(),
                queues=Queues(bus, Partitions(), policies),
                runner=self.script,
                log=log.get("test", stream=self.lines),
                policies=policies,
            )
            jobs = [asyncio.create_task(job) for job in (worker.run(), policies.follow())]
            try:
                yield worker
            finally:
                for job in jobs:
                    job.cancel()
                await asyncio.gather(*jobs, return_exceptions=True)

    async def all_done(self, tasks: int, timeout_seconds: float = 60) -> None:
        """Returns when so many are done; none of them twice."""
        await eventually(lambda: len(self.script.done) >= tasks, timeout_seconds)
        assert len(set(self.script.done)) == len(self.script.done) == tasks

    async def standing(self, queue: Queue) -> tuple[int, int]:
        """How many nobody has pulled, and how many are pulled and not settled."""
        info = await self.bus.consumer_info(WHOLE.stream, queue.durable)
        return info["num_pending"], info["num_ack_pending"]


def _policy(*, workers: int = 4, shared: int = 0, concurrent: int = 256) -> QueuePolicy:
    policy = built_in()
    policy.shared_workers = shared
    for lane in policy.lanes:
        lane.workers, lane.max_concurrent = workers, workers + shared
    for tier in policy.tenant_tiers:
        if tier.id == policy.default_tenant_tier:
            tier.max_concurrent = concurrent
    return policy


@pytest.fixture
async def mesh(nats_server: NatsServer) -> AsyncIterator[Mesh]:
    """An empty task log, and four workers to a lane."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(WHOLE.stream_spec())
        policies = PolicyStore(bus)
        await policies.prepare()
        made = Mesh(nats_server, bus, policies)
        await made.limit()
        yield made
