"""Kill -9 of each process of a staging mesh in turn, while tasks run: all of it comes back."""

import asyncio
import itertools
import os
import signal
from collections.abc import AsyncGenerator
from contextlib import aclosing, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from agentmesh.coordinator.v1 import coordinator_service_pb2 as pb
from agentmesh.coordinator.v1 import task_pb2
from agentmesh.coordinator.v1.coordinator_service_pb2_grpc import CoordinatorServiceStub
from agentmesh.coordinator.v1.task_pb2 import Task, TaskInput
from audit import api as audit
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.errors import MeshError
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tests.audit.later_clock import LaterClock
from tests.mesh.small_mesh import children, pid_of
from tier import api
from tier.api import MeshOptions, MeshState, ProcessStatus, Tier

_IDENTITY: Final = Identity("default", "user:ada")
# A process that died is there again, and a task done, even on a busy machine.
_WITHIN_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.1


@dataclass
class _Load:
    """Submits one task after the other, whatever happens; each is repeated until accepted."""

    tasks: CoordinatorServiceStub
    accepted: list[str] = field(default_factory=list[str])

    async def run(self) -> None:
        with identity.use(_IDENTITY):
            for number in itertools.count():
                await self._submit(number)
                await asyncio.sleep(_PAUSE_SECONDS)

    async def _submit(self, number: int) -> None:
        request = pb.SubmitTaskRequest(
            parent="tenants/default",
            task=Task(input=TaskInput(text=f"What is {number} * 7?")),
            request_id=f"r{number}",
        )
        while True:
            try:
                answer = await self.tasks.SubmitTask(request, timeout=5)
            except MeshError:
                await asyncio.sleep(_PAUSE_SECONDS)
            else:
                self.accepted.append(answer.task.name)
                return

    async def ended(self, name: str) -> None:
        """Returns when a task has succeeded."""

        async def succeeded() -> bool:
            with identity.use(_IDENTITY):
                try:
                    found = await self.tasks.GetTask(pb.GetTaskRequest(name=name), timeout=5)
                except MeshError as error:
                    raise AssertionError(str(error)) from error
            assert found.task.state == task_pb2.TASK_STATE_SUCCEEDED, found.task
            return True

        await eventually(succeeded, _WITHIN_SECONDS)


@asynccontextmanager
async def _loaded(state: MeshState) -> AsyncGenerator[_Load]:
    async with Channels(Everywhere(state.address), caller="user:ada") as channels:
        load = _Load(CoordinatorServiceStub(channels.get("gateway")))
        running = asyncio.create_task(load.run())
        try:
            yield load
        finally:
            running.cancel()


async def _is_back(folder: Path, name: str, before: int) -> ProcessStatus:
    """How a process is that was killed, once it is well again."""

    async def healthy() -> ProcessStatus:
        state = api.read_state(folder)
        assert state is not None
        (found,) = (each for each in await api.status(state) if each.name == name)
        assert found.healthy, found
        assert found.pid != before
        return found

    return await eventually(healthy, _WITHIN_SECONDS)


async def _audited(state: MeshState) -> None:
    ports = {each.name: each.ports[0] for each in state.processes if each.ports}
    redis, counters = (
        redis_store.connect(f"redis://127.0.0.1:{ports[name]}")
        for name in ("redis", "redis-counters")
    )
    async with (
        await Bus.connect(f"nats://127.0.0.1:{ports['nats']}", name="audit") as bus,
        aclosing(redis),
        aclosing(counters),
    ):
        report = await audit.run(
            bus, redis, counters=counters, ledger=api.own_ledger(state), clock=LaterClock()
        )
    assert report.findings == ()


async def test_each_comes_back_and_no_task_is_lost(tmp_path: Path) -> None:
    """Whoever it is, it takes its turn at the processors as before; status says why it ended, and
    in the end the audit finds nothing.
    """
    options = MeshOptions(
        tier=Tier.STAGING,
        data_dir=tmp_path,
        port=0,
        executors=2,
        no_auth=True,
        postgres=api.find_postgres(os.environ),
    )
    state = api.start_detached(options, lambda _: None)
    try:
        names = [each.name for each in state.processes if each.pid in children(state)]
        async with _loaded(state) as load:
            for name in names:
                now = api.read_state(tmp_path)
                assert now is not None
                before = pid_of(now, name)
                os.kill(before, signal.SIGKILL)
                back = await _is_back(tmp_path, name, before)
                assert back.restarts >= 1, name
                assert back.last_death.startswith("killed by SIGKILL at "), name
                assert back.pid
                assert os.sched_getscheduler(back.pid) == os.SCHED_BATCH, name
                # Somebody is served again.
                count = len(load.accepted)
                await eventually(lambda count=count: len(load.accepted) > count, _WITHIN_SECONDS)
            accepted = list(load.accepted)
            assert len(accepted) >= len(names)
            for task in accepted:
                await load.ended(task)
        now = api.read_state(tmp_path)
        assert now is not None
        assert now.pid == state.pid
        assert all(each.healthy for each in await api.status(now))
        await _audited(now)
    finally:
        api.stop_detached(tmp_path, lambda _: None)
