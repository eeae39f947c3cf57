"""One instance of the stand-in services as a process, so that a test can kill it."""

import asyncio
import contextlib
import subprocess
import sys
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager

from meshkit import log
from meshkit.server import MeshServer
from meshtest.eventually import eventually
from tests.gateway.stand_in import StandInCoordinator, registrations
from tier.ports import HOST
from tier.python_child import python_environment
from tier.serving import who_serves_not


class Instance:
    """A process that serves on a port, and can be killed and started again there."""

    def __init__(self, name: str, port: int) -> None:
        self.name = name
        self.port = port
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it serves."""
        self._spawn()

        async def serves() -> bool:
            return not await who_serves_not(f"{HOST}:{self.port}", [""])

        await eventually(serves, timeout_seconds=60)

    def _spawn(self) -> None:
        self._process = subprocess.Popen(
            [sys.executable, "-P", "-m", "tests.gateway.instance", self.name, str(self.port)],
            env=python_environment(),
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None


@asynccontextmanager
async def instances(**ports: int) -> AsyncGenerator[dict[str, Instance], None]:
    """Running instances by name."""
    running = {name: Instance(name, port) for name, port in ports.items()}
    try:
        await asyncio.gather(*(each.start() for each in running.values()))
        yield running
    finally:
        for each in running.values():
            each.kill()


async def _serve(name: str, port: int) -> None:
    server = MeshServer(
        name=name,
        address=f"{HOST}:{port}",
        registrations=registrations(StandInCoordinator(name)),
        log=log.get(name),
        default_tenant="default",
    )
    await server.serve()


if __name__ == "__main__":
    with contextlib.suppress(KeyboardInterrupt):
        asyncio.run(_serve(sys.argv[1], int(sys.argv[2])))
