"""Governors, each a process of its own, on one broker, one Redis and one ledger."""

import asyncio
import subprocess
import sys
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from meshtest.eventually import eventually
from tier.ports import HOST, free_ports
from tier.python_child import python_environment
from tier.serving import who_serves_not

_STARTS_WITHIN_SECONDS: Final = 30.0


class GovernorProcess:
    """A governor that can be killed, and started again on its port."""

    def __init__(self, port: int, configuration: Path) -> None:
        self.port: Final = port
        self._configuration: Final = configuration
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        """Returns when it serves."""
        self._spawn()

        async def serves() -> bool:
            return not await who_serves_not(f"{HOST}:{self.port}", [""])

        await eventually(serves, timeout_seconds=_STARTS_WITHIN_SECONDS)

    def _spawn(self) -> None:
        with self._configuration.with_suffix(".log").open("ab") as log:
            self._process = subprocess.Popen(
                [
                    *(sys.executable, "-P", "-m", "services.governor.main"),
                    *("--config", str(self._configuration)),
                ],
                env=python_environment(),
                stdout=log,
                stderr=log,
            )

    def kill(self) -> None:
        """Ends it as a crash would."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()


@asynccontextmanager
async def governors(
    folder: Path, count: int, *, nats_url: str, redis_url: str, section: Mapping[str, Any]
) -> AsyncGenerator[list[GovernorProcess]]:
    """So many of them, as they ship but for their settings."""
    running: list[GovernorProcess] = []
    for number, port in enumerate(free_ports(count)):
        configuration = folder / f"governor-{number}.yaml"
        configuration.write_text(
            yaml.safe_dump(
                {
                    "address": f"{HOST}:{port}",
                    "nats_url": nats_url,
                    "redis_url": redis_url,
                    "data_dir": str(folder),
                    "default_tenant": "default",
                    "log_format": "json",
                    "governor": dict(section),
                }
            )
        )
        running.append(GovernorProcess(port, configuration))
    try:
        await asyncio.gather(*(each.start() for each in running))
        yield running
    finally:
        for each in running:
            each.kill()
