"""What a backlog costs: the rate of dispatch, memory, and a page of the list, with and without."""

import asyncio
import statistics
import time
from collections.abc import AsyncGenerator, Awaitable, Callable, Coroutine, Iterable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Any, Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.queue_service_pb2 import (
    GetQueuePolicyRequest,
    QueuePolicy,
    SetQueuePolicyRequest,
)
from agentmesh.coordinator.v1.queue_service_pb2_grpc import QueueServiceStub
from agentmesh.coordinator.v1.task_pb2 import TASK_STATE_QUEUED
from bench.tasks.bench_mesh import AGENT
from bench.tasks.options import BACKLOG_COMPARED
from bench.tasks.submitters import item_of
from bench.tasks.usage import usage
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from tier.api import RunningMesh

_CALLER: Final = "user:bench"
_CALL_SECONDS: Final = 60.0
_ITEMS: Final = 1000
# Batches on their way at the same time.
_BATCHES: Final = 4
_MEASURE_SECONDS: Final = 10.0
# Workers get going meanwhile.
_SETTLE_SECONDS: Final = 2.0
_LOOK_SECONDS: Final = 0.25
_CATCH_UP_SECONDS: Final = 900.0
_DAY_SECONDS: Final = 86_400
_PAGES: Final = 20
_PAGE: Final = 50
_MEGABYTE: Final = 1e6

Tell = Callable[[str], None]


class BacklogFailed(Exception):
    """A backlog could not be measured; the text says why."""


@dataclass(frozen=True, slots=True)
class Dispatch:
    """How executors get on with a queue."""

    tasks_per_minute: float
    # Of all processes of the mesh.
    cpu_ms_per_task: float


@dataclass(frozen=True, slots=True)
class Standing:
    """How a mesh does with so many tasks queued."""

    queued: int
    submitted_per_minute: float
    dispatch: Dispatch
    # Of the coordinator and the executors, while the tasks are queued and nothing runs.
    rss_bytes: Mapping[str, int]
    # The median time of a page of the list by kind of page, in milliseconds.
    pages_ms: Mapping[str, float]

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        return {
            "queued": self.queued,
            "submitted_per_minute": round(self.submitted_per_minute, 1),
            "dispatched_per_minute": round(self.dispatch.tasks_per_minute, 1),
            "dispatch_cpu_ms_per_task": round(self.dispatch.cpu_ms_per_task, 4),
            "rss_mb": _megabytes(self.rss_bytes),
            "list_page_ms": {name: round(each, 2) for name, each in self.pages_ms.items()},
        }


@dataclass(frozen=True, slots=True)
class Comparison:
    """A mesh with an empty queue, with a short one, and with a long one."""

    empty_rss_bytes: Mapping[str, int]
    short: Standing
    long: Standing

    def to_json(self) -> dict[str, Any]:
        """As plain values."""
        long = self.long.to_json()
        return {
            "tasks_per_minute": long["dispatched_per_minute"],
            "cpu_ms_per_task": long["dispatch_cpu_ms_per_task"],
            # Nobody waits for these tasks.
            "p50_ms": None,
            "p99_ms": None,
            "backlog": {
                "empty_rss_mb": _megabytes(self.empty_rss_bytes),
                "short": self.short.to_json(),
                "long": long,
            },
        }


class Backlog:
    """Queues tasks while nothing takes them, and lets them go."""

    def __init__(self, mesh: RunningMesh, channels: Channels, tenant: str, tell: Tell) -> None:
        self._mesh: Final = mesh
        self._tenant: Final = tenant
        self._tell: Final = tell
        self._tasks: Final = CoordinatorServiceStub(channels.get("gateway"))
        self._queues: Final = QueueServiceStub(channels.get("gateway"))
        # Tasks that the mesh has accepted.
        self.submitted = 0

    async def compare(self, count: int) -> Comparison:
        """How the mesh does with an empty queue, a short one, and `count` tasks queued.

        Raises MeshError and BacklogFailed.
        """
        policy = await self._limits_for(count)
        await self._set(policy)
        # What every process needs for its first tasks is no cost of a backlog.
        await self._queue(_ITEMS * _BATCHES)
        await self._until_empty()
        empty = self._memory()
        await self._set(_paused(policy))
        short = await self._stand(min(count, BACKLOG_COMPARED), policy)
        return Comparison(empty, short, await self._stand(count, policy))

    async def _stand(self, count: int, policy: QueuePolicy) -> Standing:
        """What is measured with `count` tasks queued; fewer are left, and nothing runs."""
        submitted_per_minute = await self._queue(count - (await self._lane()).queued)
        memory = self._memory()
        pages = await self._pages()
        self._tell(f"{count:,} tasks are queued; now the executors may take them")
        await self._set(policy)
        dispatch = await self._dispatch()
        await self._set(_paused(policy))
        await self._until_resting()
        return Standing(count, submitted_per_minute, dispatch, memory, pages)

    async def _limits_for(self, count: int) -> QueuePolicy:
        """The policy in force, with room for so many tasks, and a day for each."""
        answer = await self._queues.GetQueuePolicy(GetQueuePolicyRequest(), timeout=_CALL_SECONDS)
        policy = QueuePolicy()
        policy.CopyFrom(answer.policy)
        policy.etag = ""
        for lane in policy.lanes:
            lane.time_limit.FromSeconds(_DAY_SECONDS)
        for tier in policy.tenant_tiers:
            tier.max_queued = max(tier.max_queued, 2 * count)
            tier.submits_per_second = 1_000_000
            tier.submit_burst = 1_000_000
        return policy

    async def _set(self, policy: QueuePolicy) -> None:
        await self._queues.SetQueuePolicy(
            SetQueuePolicyRequest(policy=policy), timeout=_CALL_SECONDS
        )
        # It reaches every process within a second.
        await asyncio.sleep(1.0)

    async def _queue(self, count: int) -> float:
        """Queues so many tasks; how many a minute were accepted."""
        begun = time.monotonic()
        accepted = 0
        told = begun
        latest = 0
        left = iter(range(0, count, _ITEMS))

        async def some() -> None:
            nonlocal accepted, told, latest
            for first in left:
                size = min(_ITEMS, count - first)
                latest = max(latest, await self._submit(size))
                accepted += size
                if time.monotonic() - told > 1:
                    told = time.monotonic()
                    self._tell(f"{accepted:,} of {count:,} tasks are queued")

        await together(some() for _ in range(_BATCHES))
        per_minute = count / (time.monotonic() - begun) * 60
        self.submitted += count
        await self._until_listed(latest)
        return per_minute

    async def _submit(self, size: int) -> int:
        """Submits a batch; when its last task was created, in nanoseconds."""
        items = [
            item_of(self._tenant, AGENT, timeout_seconds=_CALL_SECONDS, index=index)
            for index in range(size)
        ]
        latest = 0
        answers = self._tasks.BatchSubmitTasks(
            pb.BatchSubmitTasksRequest(items=items), timeout=_CALL_SECONDS
        )
        async for answer in answers:
            for result in answer.results:
                if result.HasField("error"):
                    raise BacklogFailed(f"A task was refused: {result.error.message}")
                latest = max(latest, result.response.task.create_time.ToNanoseconds())
        return latest

    async def _until_listed(self, created: int) -> None:
        """Returns when the read model knows tasks up to that time."""

        async def listed() -> bool:
            page = await self._page(pb.ListTasksRequest(page_size=1))
            return bool(page.tasks) and page.tasks[0].create_time.ToNanoseconds() >= created

        await _until(listed, "the last task to be listed")

    async def _pages(self) -> Mapping[str, float]:
        deep = pb.ListTasksRequest(page_size=1000)
        for _ in range(_PAGES):
            page = await self._page(deep)
            if not page.next_page_token:
                break
            deep.page_token = page.next_page_token
        deep.page_size = _PAGE
        return {
            "first": await self._median_ms(pb.ListTasksRequest(page_size=_PAGE)),
            "by_state": await self._median_ms(
                pb.ListTasksRequest(page_size=_PAGE, states=[TASK_STATE_QUEUED])
            ),
            "by_agent": await self._median_ms(pb.ListTasksRequest(page_size=_PAGE, agent=AGENT)),
            "deep": await self._median_ms(deep),
            "of_1000": await self._median_ms(pb.ListTasksRequest(page_size=1000)),
        }

    async def _median_ms(self, request: pb.ListTasksRequest) -> float:
        taken: list[float] = []
        for _ in range(_PAGES):
            begun = time.monotonic()
            await self._page(request)
            taken.append((time.monotonic() - begun) * 1000)
        return statistics.median(taken)

    async def _page(self, request: pb.ListTasksRequest) -> pb.ListTasksResponse:
        request.parent = f"tenants/{self._tenant}"
        return await self._tasks.ListTasks(request, timeout=_CALL_SECONDS)

    async def _dispatch(self) -> Dispatch:
        """How fast the queue gets shorter, and at what cost.

        The queue's length is told anew about once a second, so the rate is that between
        the first and the last time that it was seen to change.
        """
        await asyncio.sleep(_SETTLE_SECONDS)
        seen: list[tuple[float, int, float]] = []
        end = time.monotonic() + _MEASURE_SECONDS
        queued = (await self._lane()).queued
        while time.monotonic() < end:
            await asyncio.sleep(_LOOK_SECONDS)
            lane = await self._lane()
            if lane.queued == 0:
                break
            if lane.queued != queued:
                queued = lane.queued
                seen.append((time.monotonic(), queued, self._cpu_seconds()))
        if len(seen) < 2 or seen[0][1] <= seen[-1][1]:
            raise BacklogFailed(
                "The queue did not get shorter for long enough to tell how fast: raise --backlog."
            )
        (first, more, cpu_before), (last, fewer, cpu_after) = seen[0], seen[-1]
        tasks = more - fewer
        return Dispatch(tasks / (last - first) * 60, (cpu_after - cpu_before) / tasks * 1000)

    def _cpu_seconds(self) -> float:
        pids = {each.name: each.pid for each in self._mesh.state.processes}
        return sum(usage(pids, self._mesh.state.data_dir).cpu_seconds.values())

    async def _until_empty(self) -> None:
        """Returns when nothing is queued, and nothing runs."""

        async def empty() -> bool:
            lane = await self._lane()
            return lane.queued == lane.running == 0

        await _until(empty, "the first tasks to end")

    async def _until_resting(self) -> None:
        """Returns when nothing runs."""

        async def resting() -> bool:
            return (await self._lane()).running == 0

        await _until(resting, "the executors to rest")

    async def _lane(self) -> pb.LaneStats:
        request = pb.GetQueueStatsRequest(parent=f"tenants/{self._tenant}")
        answer = await self._tasks.GetQueueStats(request, timeout=_CALL_SECONDS)
        (lane,) = (each for each in answer.lanes if each.lane == tier_pb2.LANE_STANDARD)
        return lane

    def _memory(self) -> Mapping[str, int]:
        pids = {
            each.name: each.pid
            for each in self._mesh.state.processes
            if each.name.startswith(("coordinator", "executor", "services"))
        }
        return usage(pids, self._mesh.state.data_dir).rss_bytes


def _megabytes(sizes: Mapping[str, int]) -> dict[str, float]:
    return {name: round(size / _MEGABYTE, 1) for name, size in sizes.items()}


async def together(jobs: Iterable[Coroutine[Any, Any, None]]) -> None:
    """Runs all to their end; the first that fails ends the others, and its error is raised."""
    try:
        async with asyncio.TaskGroup() as group:
            for job in jobs:
                group.create_task(job)
    except ExceptionGroup as failed:
        # Callers know errors, not groups of them.
        raise failed.exceptions[0] from None


async def _until(condition: Callable[[], Awaitable[bool]], what: str) -> None:
    """Returns when the condition holds; BacklogFailed where that takes too long."""
    try:
        async with asyncio.timeout(_CATCH_UP_SECONDS):
            while True:
                if await condition():
                    return
                await asyncio.sleep(_LOOK_SECONDS)
    except TimeoutError:
        raise BacklogFailed(f"Waited {_CATCH_UP_SECONDS:.0f} s for {what}.") from None


def _paused(policy: QueuePolicy) -> QueuePolicy:
    """The policy without a worker."""
    paused = QueuePolicy()
    paused.CopyFrom(policy)
    paused.shared_workers = 0
    for lane in paused.lanes:
        lane.workers = 0
    return paused


@asynccontextmanager
async def backlog_of(mesh: RunningMesh, tenant: str, tell: Tell) -> AsyncGenerator[Backlog]:
    """A backlog of the tenant's, through the gateway."""
    async with Channels({"gateway": mesh.address}, caller=_CALLER) as channels:
        with identity.use(Identity(tenant, _CALLER)):
            yield Backlog(mesh, channels, tenant, tell)
