"""All services in this process, behind one server on one port.

The governor has another one besides, which ends last: calls that finish and
jobs that end still settle there what they spent.
"""

import asyncio
import dataclasses
import os
from collections.abc import Awaitable, Callable, Mapping, Sequence
from contextlib import AsyncExitStack, suppress
from pathlib import Path
from typing import TYPE_CHECKING, Final

from tier import parts
from tier.data_dir import DataDir
from tier.failures import BadConfig, StartFailed
from tier.gateway_config import DIRECTORY
from tier.ports import HOST
from tier.state import ProcessRecord
from tier.topology import Stores
from tier.version import VERSION

if TYPE_CHECKING:  # at run time these wait until the servers have been started
    from meshkit.log import Log
    from meshkit.server import MeshServer, Registration
    from meshkit.service import Resources, Service

NAME: Final = "services"
_DEFAULT_TENANT: Final = "default"
_DRAIN_SECONDS: Final = 10.0
# The part whose other server ends last.
_LAST: Final = "governor"
_NOTES: Final = ("All services run in one process: if one fails, all stop.",)

# What a service of that name may use.
ResourcesOf = Callable[[str], "Resources"]
Build = Callable[[ResourcesOf], Awaitable[Sequence["Service"]]]
# From the configuration file and the environment to what builds the services.
Load = Callable[[Path | None, Mapping[str, str]], Build]


class EmbeddedServices:
    """The prototype's topology."""

    def __init__(
        self,
        *,
        data_dir: DataDir,
        port: int,
        last_port: int,
        config: Path | None,
        environ: Mapping[str, str],
        load: Load,
        log: Callable[[str], "Log"],
    ) -> None:
        """`load` reads the settings and gives what builds the services.

        `port`: where all are served, `last_port`: where services reach the governor.
        """
        self._data_dir: Final = data_dir
        self._port: Final = port
        self._last_port: Final = last_port
        self._config: Final = config
        self._environ: Final = environ
        self._load: Final = load
        self._log: Final = log
        self._stack: Final = AsyncExitStack()
        self._build: Build | None = None
        self._server: asyncio.Task[None] | None = None
        self._last_server: asyncio.Task[None] | None = None
        self._callers: list[asyncio.Task[None]] = []
        self._jobs: list[asyncio.Task[None]] = []
        # Those of the service that ends last.
        self._last_jobs: list[asyncio.Task[None]] = []

    @property
    def endpoints(self) -> Mapping[str, Sequence[int]]:
        """One port for every cluster."""
        names = (DIRECTORY, *(part.name for part in parts.PARTS))
        return dict.fromkeys(names, (self._port,))

    @property
    def notes(self) -> tuple[str, ...]:
        """What this tier plainly does not do."""
        return _NOTES

    @property
    def records(self) -> tuple[ProcessRecord, ...]:
        """This process."""
        log = self._data_dir.log_file("mesh")
        return (ProcessRecord(NAME, os.getpid(), VERSION, (self._port, self._last_port), log),)

    def configure(self) -> None:
        """Imports the services and reads their settings. Raises BadConfig."""
        self._build = self._load(self._config, self._environ)

    async def start(self, stores: Stores) -> None:
        """Connects, builds and serves. Raises StartFailed."""
        from meshkit.config import ConfigError
        from meshkit.errors import MeshError

        try:
            await self._start(stores)
        except ConfigError as error:
            raise BadConfig(str(error)) from None
        except MeshError as error:
            raise StartFailed(
                "the services", str(error), self._data_dir.log_file("mesh")
            ) from error

    async def _start(self, stores: Stores) -> None:
        if self._build is None:
            raise RuntimeError("configure comes before start")
        shared = await self._connect(stores)
        services = await self._build(lambda name: self._resources_of(name, shared))
        registrations = [each for service in services for each in service.registrations]
        (part,) = (each for each in parts.PARTS if each.name == _LAST)
        last = self._server_of(
            [each for each in registrations if each.service_name in part.services],
            self._last_port,
            shared.log,
        )
        self._last_server = asyncio.create_task(last.serve(), name="last server")
        await _started(last, self._last_server)
        server = self._server_of(registrations, self._port, shared.log)
        self._server = asyncio.create_task(server.serve(), name="server")
        await _started(server, self._server)
        for service in services:
            serves = {each.service_name for each in service.registrations}
            # Nothing else of the mesh.
            is_last = serves & {*parts.SERVICES} == {*part.services}
            jobs = self._last_jobs if is_last else self._jobs
            self._callers += [asyncio.create_task(_run(job)) for job in service.callers]
            jobs += [asyncio.create_task(_run(job)) for job in service.background]

    def _server_of(
        self, registrations: Sequence["Registration"], port: int, log: "Log"
    ) -> "MeshServer":
        from meshkit.server import MeshServer

        return MeshServer(
            name="prototype",
            address=f"{HOST}:{port}",
            registrations=registrations,
            log=log,
            default_tenant=_DEFAULT_TENANT,
            drain_seconds=_DRAIN_SECONDS,
        )

    async def _connect(self, stores: Stores) -> "Resources":
        from meshkit import redis_store
        from meshkit.bus import Bus
        from meshkit.client import Channels
        from meshkit.clock import SystemClock
        from meshkit.ids import RandomIds
        from meshkit.service import Resources

        log = self._log("prototype")
        bus = await self._stack.enter_async_context(
            await Bus.connect(stores.nats_url, name="prototype", log=log)
        )
        redis = redis_store.connect(stores.redis_url)
        self._stack.push_async_callback(redis.aclose)
        return Resources(
            stack=self._stack,
            bus=bus,
            redis=redis,
            channels=Channels({}, caller="service:prototype"),
            clock=SystemClock(),
            ids=RandomIds(),
            log=log,
            data_dir=self._data_dir.path,
        )

    def _resources_of(self, name: str, shared: "Resources") -> "Resources":
        """What is shared, with the service's own log, and channels only to whom it may call."""
        from meshkit.client import Channels

        (part,) = (each for each in parts.PARTS if each.name == name)
        targets = {
            each: f"{HOST}:{self._last_port if each == _LAST else self._port}"
            for each in part.calls
        }
        channels = Channels(targets, caller=f"service:{name}", single_address=True)
        self._stack.push_async_exit(channels)
        return dataclasses.replace(shared, channels=channels, log=self._log(name))

    def watches(self, on_restart: Callable[[], None]) -> Sequence[Awaitable[None]]:
        """The servers and the services' jobs; nothing of them is started again."""
        return [self._outcome()]

    async def _outcome(self) -> None:
        """Ends with a server, or with the first failure; a job may end when it is done.

        Cancelling this leaves the tasks alone: they drain.
        """
        running = {task for tasks in self._tasks for task in tasks}
        while self._server in running and self._last_server in running:
            done, running = await asyncio.wait(running, return_when=asyncio.FIRST_COMPLETED)
            for task in done:
                task.result()

    @property
    def _tasks(self) -> Sequence[Sequence[asyncio.Task[None]]]:
        """In the order in which they end."""
        servers = [[each] if each else [] for each in (self._server, self._last_server)]
        return self._callers, servers[0], self._jobs, servers[1], self._last_jobs

    async def stop(self) -> None:
        """Ends who makes calls, lets calls in flight finish, ends the jobs, then disconnects.

        All the while what they spent can be settled.
        """
        for tasks in self._tasks:
            for task in tasks:
                task.cancel()
            for task in tasks:
                with suppress(asyncio.CancelledError, Exception):
                    await task
        await self._stack.aclose()


async def _started(server: "MeshServer", serving: asyncio.Task[None]) -> None:
    """Returns when it takes calls; raises what `serving` failed with."""
    started = asyncio.create_task(server.started())
    await asyncio.wait([serving, started], return_when=asyncio.FIRST_COMPLETED)
    if serving.done():
        started.cancel()
        await serving


async def _run(job: Callable[[], Awaitable[None]]) -> None:
    await job()
