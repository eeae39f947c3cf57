"""Several instances of the services behind the shipped gateway; each does as it is told."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

import grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2_grpc
from meshtest.eventually import eventually
from tests.gateway.running_gateway import Gateway, gateway
from tests.mesh.behaviour import Behaviour, Counted
from tier import ports
from tier.ports import HOST
from tier.python_child import python_environment
from tier.serving import until_serving

_MODULE: Final = "tests.mesh.scripted_instance"
_START_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 20.0
# The cluster of the calls that tests make.
CLUSTER: Final = "coordinator"


class Instance:
    """One process, which keeps its name and its port over restarts."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name: Final = name
        self.port: Final = port
        self._log: Final = log
        self._process: Process | None = None

    @property
    def pid(self) -> int:
        """Of the process as it runs now."""
        assert self._process is not None, "it does not run"
        return self._process.pid

    async def start(self) -> None:
        """Returns when it serves."""
        with self._log.open("ab") as log:
            self._process = await asyncio.create_subprocess_exec(
                *(sys.executable, "-P", "-m", _MODULE, self.name, str(self.port)),
                stdin=PIPE,
                stdout=PIPE,
                stderr=log,
                env=python_environment(),
            )
        missing = await until_serving(f"{HOST}:{self.port}", [""], _START_SECONDS)
        assert not missing, f"{self.name} does not serve: {missing}; see {self._log}"

    async def behave(self, behaviour: Behaviour) -> Counted:
        """Returns when it does so, with what it has counted until then."""
        process = self._process
        assert process is not None, "it does not run"
        assert process.stdin is not None
        assert process.stdout is not None
        process.stdin.write(behaviour.line)
        async with asyncio.timeout(_ANSWER_SECONDS):
            await process.stdin.drain()
            return Counted.read(await process.stdout.readline())

    async def end(self, how: signal.Signals) -> None:
        """Ends it, as a crash would by SIGKILL or in order by SIGTERM; returns when it is gone."""
        process, self._process = self._process, None
        if process is not None and process.returncode is None:
            process.send_signal(how)
            await process.wait()


@dataclass(frozen=True, slots=True)
class Mesh:
    """Instances behind a gateway, and a client before it."""

    gateway: Gateway
    instances: Sequence[Instance]
    channel: grpc.aio.Channel

    @property
    def coordinator(self) -> Any:
        """Calls through the gateway."""
        return coordinator_service_pb2_grpc.CoordinatorServiceStub(self.channel)

    async def statistics(self, name: str) -> int:
        """One of Envoy's figures of the cluster."""
        return (await self.gateway.statistics(f"cluster.{CLUSTER}.")).get(name, 0)

    async def healthy(self, count: int) -> bool:
        """Whether Envoy takes so many of the instances for well."""
        return await self.statistics("membership_healthy") == count

    async def calm(self) -> None:
        """Has all instances run and answer; returns when Envoy uses each of them again."""
        for each in self.instances:
            await each.behave(Behaviour())
        await eventually(lambda: self.healthy(len(self.instances)), timeout_seconds=40)

    async def calls(self, method: str = "GetTask") -> list[int]:
        """How many calls each of the instances has had; they answer everything from now on."""
        counted = [await each.behave(Behaviour()) for each in self.instances]
        return [each.calls.get(method, 0) for each in counted]


@asynccontextmanager
async def running(folder: Path, count: int) -> AsyncGenerator[Mesh]:
    """So many instances, all of them in use."""
    places = ports.free_ports(count)
    names = "abcdefgh"[:count]
    made = [
        Instance(name, port, folder / f"{name}.log")
        for name, port in zip(names, places, strict=True)
    ]
    async with AsyncExitStack() as stack:
        for each in made:
            stack.push_async_callback(each.end, signal.SIGKILL)
        await asyncio.gather(*(each.start() for each in made))
        front = await stack.enter_async_context(gateway(folder, places))
        channel = await stack.enter_async_context(grpc.aio.insecure_channel(front.address))
        mesh = Mesh(front, made, channel)
        await eventually(lambda: mesh.healthy(count), timeout_seconds=20)
        yield mesh
