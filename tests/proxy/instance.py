"""One instance of the stand-in service as a process, which a test can kill or end."""

import asyncio
import signal
import subprocess
import sys
from pathlib import Path
from typing import Final

import uvloop

from meshkit import log
from meshkit.server import MeshServer
from tests.proxy.stand_in import registration
from tier.ports import HOST
from tier.python_child import python_environment
from tier.service_tls import ServiceTls

# The service that it is.
CALLEE: Final = "reasoning"
_ENDS_WITHIN_SECONDS: Final = 60.0
# What a call takes on a machine that has much else to do.
_DRAIN_SECONDS: Final = 30.0


class Instance:
    """A process that serves on a port, and can be ended and started again there."""

    def __init__(self, name: str, port: int, certificates: Path | None) -> None:
        """`certificates`: the folder of all; None for an instance that talks in plain text."""
        self.name = name
        self.port = port
        self._certificates = certificates
        self._process: subprocess.Popen[bytes] | None = None

    @property
    def target(self) -> str:
        """Where it is called directly."""
        return f"{HOST}:{self.port}"

    @property
    def pid(self) -> int:
        """Of its process; 0 before the first one."""
        return self._process.pid if self._process else 0

    @property
    def alive(self) -> bool:
        """Whether the process runs."""
        return self._process is not None and self._process.poll() is None

    def start(self) -> None:
        """Starts the process, and does not wait."""
        self._process = subprocess.Popen(
            [
                *(sys.executable, "-P", "-m", "tests.proxy.instance", self.name, str(self.port)),
                *([str(self._certificates)] if self._certificates else []),
            ],
            env=python_environment(),
            stderr=subprocess.DEVNULL,
        )

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process:
            self._process.kill()
            self._process.wait()

    async def end(self) -> None:
        """Has it drain; returns when it has ended."""
        process = self._process
        if process is not None:
            process.send_signal(signal.SIGTERM)
            async with asyncio.timeout(_ENDS_WITHIN_SECONDS):
                await asyncio.to_thread(process.wait)

    def pause(self) -> None:
        """Stops it where it is, as if its machine were gone."""
        if self._process:
            self._process.send_signal(signal.SIGSTOP)


async def _serve(name: str, port: int, certificates: Path | None) -> None:
    loop, serving = asyncio.get_running_loop(), asyncio.current_task()
    if serving is not None:
        loop.add_signal_handler(signal.SIGTERM, serving.cancel)
    server = MeshServer(
        name=name,
        address=f"{HOST}:{port}",
        registrations=[registration(name)],
        log=log.get(name),
        default_tenant="default",
        drain_seconds=_DRAIN_SECONDS,
        tls=ServiceTls(certificates, CALLEE).settings if certificates else None,
    )
    try:
        await server.serve()
    except asyncio.CancelledError:
        return


if __name__ == "__main__":
    folder = Path(sys.argv[3]) if len(sys.argv) > 3 else None
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(_serve(sys.argv[1], int(sys.argv[2]), folder))
