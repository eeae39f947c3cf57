"""Several instances of the services, each of which does as it is told."""

import asyncio
import signal
import sys
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from meshtest.eventually import eventually
from tests.mesh.behaviour import Behaviour, Counted
from tests.mesh.fronts import Front, gateway_front, proxy_front
from tier import ports
from tier.ports import HOST
from tier.python_child import python_environment
from tier.serving import until_serving

_MODULE: Final = "tests.mesh.scripted_instance"
_START_SECONDS: Final = 60.0
_ANSWER_SECONDS: Final = 60.0
# Longer than anybody stays ejected.
_CALM_SECONDS: Final = 60.0
_WELL: Final = Behaviour()


class Instance:
    """One process, which keeps its name and its port over restarts."""

    def __init__(self, name: str, port: int, log: Path) -> None:
        self.name: Final = name
        self.port: Final = port
        self._log: Final = log
        self._process: Process | None = None

    @property
    def runs(self) -> bool:
        """Whether it was started, and not ended since."""
        return self._process is not None

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
    """Instances behind both Envoys."""

    instances: Sequence[Instance]
    gateway: Front
    proxy: Front

    async def calm(self) -> None:
        """Has all instances run and answer; returns when both Envoys use each of them."""
        await asyncio.gather(*(each.start() for each in self.instances if not each.runs))
        await self.calls()
        for front in (self.gateway, self.proxy):
            await eventually(lambda front=front: front.healthy(len(self.instances)), _CALM_SECONDS)

    async def calls(self, *methods: str, behaviour: Behaviour = _WELL) -> list[int]:
        """How many calls each instance that runs has had; all behave so from now on."""
        counted = [await each.behave(behaviour) for each in self.instances if each.runs]
        return [sum(each.calls.get(method, 0) for method in methods) for each in counted]


@asynccontextmanager
async def instances(folder: Path, count: int) -> AsyncGenerator[Sequence[Instance]]:
    """So many of them, serving."""
    made = [
        Instance(name, port, folder / f"{name}.log")
        for name, port in zip("abcdefgh"[:count], ports.free_ports(count), strict=True)
    ]
    async with AsyncExitStack() as stack:
        for each in made:
            stack.push_async_callback(each.end, signal.SIGKILL)
        await asyncio.gather(*(each.start() for each in made))
        yield made


@asynccontextmanager
async def running(folder: Path, count: int) -> AsyncGenerator[Mesh]:
    """So many instances, all of them used by both Envoys."""
    async with instances(folder, count) as made:
        places = [each.port for each in made]
        async with gateway_front(folder, places) as gateway, proxy_front(folder, places) as proxy:
            mesh = Mesh(made, gateway, proxy)
            await mesh.calm()
            yield mesh
