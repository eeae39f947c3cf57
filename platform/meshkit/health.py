"""The health of each service, following what it depends on."""

import asyncio
from collections.abc import Mapping, Sequence
from typing import Any, Final, Protocol, cast

from grpc_health.v1 import health, health_pb2, health_pb2_grpc

from meshkit.log import Log
from meshkit.time_limit import within

_SERVING: Final = health_pb2.HealthCheckResponse.SERVING
_NOT_SERVING: Final = health_pb2.HealthCheckResponse.NOT_SERVING
_CHECK_EVERY_SECONDS: Final = 1.0
_CHECK_TIMEOUT_SECONDS: Final = 1.0


class Dependency(Protocol):
    """Something that a service cannot do without."""

    @property
    def name(self) -> str:
        """What the log calls it."""
        ...

    async def check(self) -> None:
        """Raises when it is not usable. Called every second: looks, and asks rarely."""
        ...


class Health:
    """Answers grpc.health.v1 for the services of one server.

    A service serves while all its dependencies do; the server as a whole (the
    empty service name) while all its services do.
    """

    def __init__(self, services: Mapping[str, Sequence[Dependency]], *, log: Log) -> None:
        self._services: Final = services
        self._log: Final = log
        self._servicer: Any = health.aio.HealthServicer()
        self._faults: dict[str, str] = {}
        self._shown: dict[str, Any] = {}

    async def register(self, server: object) -> None:
        """Adds the health service to `server`, NOT_SERVING until the first check."""
        health_pb2_grpc.add_HealthServicer_to_server(self._servicer, cast(Any, server))
        for service in ("", *self._services):
            await self._show(service, _NOT_SERVING)

    async def follow(self) -> None:
        """Checks the dependencies until it is cancelled."""
        task = asyncio.current_task()
        while not (task and task.cancelling()):
            await self.check_once()
            await asyncio.sleep(_CHECK_EVERY_SECONDS)
        # A check has swallowed it: asyncio.wait_for does, before Python 3.12, where what it waits
        # for comes at the same moment.
        raise asyncio.CancelledError

    async def check_once(self) -> None:
        """Checks each dependency once, and shows the outcome."""
        faults: dict[str, str] = {}
        for each in {id(each): each for all_ in self._services.values() for each in all_}.values():
            try:
                with within(_CHECK_TIMEOUT_SECONDS):
                    await each.check()
            except Exception as error:  # whatever it is, the dependency is not usable
                faults[each.name] = str(error) or type(error).__name__
        for name in faults.keys() - self._faults.keys():
            self._log.warning("dependency.lost", dependency=name, cause=faults[name])
        for name in self._faults.keys() - faults.keys():
            self._log.info("dependency.back", dependency=name)
        self._faults = faults
        for service, dependencies in self._services.items():
            usable = all(each.name not in faults for each in dependencies)
            await self._show(service, _SERVING if usable else _NOT_SERVING)
        await self._show("", _NOT_SERVING if faults else _SERVING)

    async def leave(self) -> None:
        """Shows NOT_SERVING from now on."""
        await self._servicer.enter_graceful_shutdown()

    async def _show(self, service: str, status: Any) -> None:
        if self._shown.get(service) != status:
            self._shown[service] = status
            await self._servicer.set(service, status)
