"""Users of the mesh, who want many things at once and try each twice."""

import asyncio
import random
from collections.abc import AsyncGenerator, AsyncIterable, Iterator, Sequence
from contextlib import asynccontextmanager, suppress
from functools import partial
from typing import Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1.agent_service_pb2 import CreateAgentRequest
from agentmesh.coordinator.v1.agent_service_pb2_grpc import AgentServiceStub
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_event_pb2 import AgentSpec, TaskSignal
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import MeshError
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tasklog import lifecycle
from tests.faults.question import (
    HELPER,
    LANES,
    PLAIN,
    TENANTS,
    Kind,
    Question,
    questions,
)

_CALL_SECONDS: Final = 10.0
_RETRY_AFTER_SECONDS: Final = 0.25
_ACCEPTED_WITHIN_SECONDS: Final = 60.0
_SETTLED_WITHIN_SECONDS: Final = 60.0
_WATCH_SECONDS: Final = 120.0
# While so many tasks are on their way few come to them: a slow machine would pile up more and
# more, and a task would meet faults that were long over when it was asked for.
_AT_ONCE: Final = 16
# From one to the next then.
_FULL_SECONDS: Final = 1.0
# One task of so many is watched from its beginning to its end.
_WATCHED: Final = 5


class Load:
    """Asks one question after the other, and knows what became of asking."""

    def __init__(
        self,
        channels: Channels,
        questions: Iterator[Question],
        *,
        seed: int,
        tenants: Sequence[str] = TENANTS,
    ) -> None:
        self._tasks: Final = CoordinatorServiceStub(channels.get("gateway"))
        self._agents: Final = AgentServiceStub(channels.get("gateway"))
        self._questions: Final = questions
        self._tenants: Final = tenants
        self._chance: Final = random.Random(seed)
        # By the name of the task that the mesh made of it.
        self.accepted: Final[dict[str, Question]] = {}
        # What went wrong in a first try, and where the second did not help either.
        self.first_errors: Final[list[MeshError]] = []
        self.refused: Final[list[tuple[Question, MeshError]]] = []
        # Sequences of the events that a watcher saw, by task.
        self.watched: Final[dict[str, list[int]]] = {}
        # Questions that nobody has answered yet.
        self._asking = 0
        # Tasks of which nobody knows that they have ended, as they came, and those that a person
        # has to decide on.
        self._on_their_way: Final[dict[str, None]] = {}
        self._in_doubt: Final[set[str]] = set()

    async def ask(self, question: Question) -> str | None:
        """The task's name; None where both tries failed."""
        try:
            return await self.submit(question)
        except MeshError as error:
            self.first_errors.append(error)
            await asyncio.sleep(error.retry_after_seconds or _RETRY_AFTER_SECONDS)
        try:
            return await self.submit(question)
        except MeshError as error:
            self.refused.append((question, error))
            return None

    async def submit(self, question: Question) -> str:
        """The task's name, once the mesh has accepted the question. Raises MeshError."""
        request = pb.SubmitTaskRequest(
            parent=f"tenants/{question.tenant}",
            task=Task(
                input=TaskInput(text=question.text),
                lane=question.lane,
                agent=f"tenants/{question.tenant}/agents/{question.agent}"
                if question.agent
                else "",
            ),
            request_id=question.request_id,
        )
        with identity.use(Identity(question.tenant, "user:load")):
            answer = await self._tasks.SubmitTask(request, timeout=_CALL_SECONDS)
        self.accepted[answer.task.name] = question
        self._on_their_way[answer.task.name] = None
        return answer.task.name

    async def get(self, name: str) -> Task:
        """The task as it stands now."""
        with identity.use(Identity(name.split("/")[1], "user:load")):
            return (await self._tasks.GetTask(pb.GetTaskRequest(name=name), timeout=20)).task

    async def is_taken_over(self, task_id: str) -> bool:
        """Whether a task that was accepted is in another attempt than its first one."""
        names = [name for name in self.accepted if name.endswith(f"/{task_id}")]
        try:
            return any([(await self.get(name)).attempt > 1 for name in names])
        except MeshError:
            return False

    async def settles(self) -> None:
        """Lets all tasks so far come to their end, or to ask whether a call happened."""
        for name in tuple(self._on_their_way):
            await eventually(partial(self._has_settled, name), _SETTLED_WITHIN_SECONDS)

    async def _has_settled(self, name: str) -> bool:
        try:
            task = await self.get(name)
        except MeshError:
            return False
        if task.wait.approval.outcome_unknown:
            self._in_doubt.add(name)
        elif task.state not in lifecycle.TERMINAL:
            return False
        self._on_their_way.pop(name, None)
        return True

    async def approve_what_is_unknown(self) -> None:
        """Lets all tasks come to their end, or to ask whether a call happened: it did not."""
        await self.settles()
        while self._in_doubt:
            await self._approve(self._in_doubt.pop())

    async def _approve(self, name: str) -> None:
        signal = TaskSignal(approval=TaskSignal.Approval(comment="It did not happen."))
        with identity.use(Identity(name.split("/")[1], "user:load")):
            await self._tasks.SignalTask(
                pb.SignalTaskRequest(name=name, signal=signal), timeout=_CALL_SECONDS
            )

    async def _settle_doubts(self) -> None:
        """Asks again whatever was refused, under the same request id, until it is accepted.

        A refusal leaves open whether the task was stored.
        """
        for question, _ in self.refused:

            async def accepted(question: Question = question) -> bool:
                try:
                    await self.submit(question)
                except MeshError as error:
                    raise LookupError(question.request_id) from error
                return True

            await eventually(accepted, _ACCEPTED_WITHIN_SECONDS)

    async def has_asked(self, more: int) -> None:
        """Returns when so many more questions were accepted."""
        enough = len(self.accepted) + more
        await eventually(lambda: len(self.accepted) >= enough, _ACCEPTED_WITHIN_SECONDS)

    async def employ_helpers(self) -> None:
        """Creates the agent that may wait and delegate, for every tenant."""
        spec = AgentSpec(
            instructions="Wait and delegate as you are told.",
            tools=["calculator", "wait", "delegate"],
        )
        for tenant in self._tenants:
            with identity.use(Identity(tenant, "user:load")):
                await self._agents.CreateAgent(
                    CreateAgentRequest(parent=f"tenants/{tenant}", agent_id=HELPER, spec=spec),
                    timeout=_CALL_SECONDS,
                )

    async def _run(self, per_second: float, enough: asyncio.Event) -> None:
        """Asks at that pace, and slower where the mesh does not keep up, whatever is answered.

        Returns when what was begun has ended.
        """
        async with asyncio.TaskGroup() as group:
            while not enough.is_set():
                self._asking += 1
                group.create_task(self._one(next(self._questions)))
                pause = self._chance.expovariate(per_second)
                if await self._is_full():
                    pause = max(pause, _FULL_SECONDS)
                with suppress(TimeoutError):
                    await asyncio.wait_for(enough.wait(), pause)

    async def _is_full(self) -> bool:
        """Whether the mesh has enough to do."""
        if self._asking + len(self._on_their_way) < _AT_ONCE:
            return False
        for name in tuple(self._on_their_way):
            if await self._has_settled(name):
                return False
        return True

    @asynccontextmanager
    async def going_on(self, per_second: float) -> AsyncGenerator[None]:
        """Keeps on asking inside the block; after it every question was accepted."""
        enough = asyncio.Event()
        asking = asyncio.create_task(self._run(per_second, enough))
        try:
            yield
            enough.set()
            async with asyncio.timeout(_WATCH_SECONDS):
                await asking
            await self._settle_doubts()
        finally:
            asking.cancel()
            await asyncio.wait([asking])

    async def _one(self, question: Question) -> None:
        try:
            name = await self.ask(question)
        finally:
            self._asking -= 1
        if name is not None and len(self.accepted) % _WATCHED == 0:
            self.watched[name] = []
            await self._follow(name)

    def watch(self, name: str, *, after: int = 0) -> AsyncIterable[pb.WatchTaskResponse]:
        """A watcher of a task, who has not read anything yet."""
        request = pb.WatchTaskRequest(name=name, after_sequence=after)
        with identity.use(Identity(name.split("/")[1], "user:load")):
            return self._tasks.WatchTask(request, timeout=_WATCH_SECONDS)

    async def read(self, watcher: AsyncIterable[pb.WatchTaskResponse]) -> list[int]:
        """The sequences of the events that a watcher reads, up to the task's end."""
        return [update.event.sequence async for update in watcher if update.HasField("event")]

    async def _follow(self, name: str) -> None:
        """Follows a task to its end, and goes on after the last event when that breaks off."""
        seen = self.watched[name]
        while True:
            try:
                async for update in self.watch(name, after=seen[-1] if seen else 0):
                    if update.HasField("event"):
                        seen.append(update.event.sequence)
            except MeshError:
                await asyncio.sleep(_RETRY_AFTER_SECONDS)
            else:
                return


@asynccontextmanager
async def one_user(
    address: str,
    *,
    seed: int,
    kinds: Sequence[Kind] = PLAIN,
    lanes: Sequence[tier_pb2.Lane] = LANES,
    tenants: Sequence[str] = TENANTS,
) -> AsyncGenerator[Load]:
    """Somebody who asks when told to."""
    print(f"load with seed {seed}")
    async with Channels(Everywhere(address), caller="user:load") as channels:
        asked = questions(seed, kinds=kinds, lanes=lanes, tenants=tenants)
        load = Load(channels, asked, seed=seed, tenants=tenants)
        await load.employ_helpers()
        yield load


@asynccontextmanager
async def users(
    address: str,
    *,
    seed: int,
    per_second: float = 10.0,
    kinds: Sequence[Kind] = PLAIN,
    lanes: Sequence[tier_pb2.Lane] = LANES,
    tenants: Sequence[str] = TENANTS,
) -> AsyncGenerator[Load]:
    """Users who keep on asking inside the block; after it every question was accepted."""
    async with (
        one_user(address, seed=seed, kinds=kinds, lanes=lanes, tenants=tenants) as load,
        load.going_on(per_second),
    ):
        yield load
