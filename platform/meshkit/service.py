"""What a service is made from, what it gives back, and how it runs as a process of its own."""

import argparse
import os
from collections.abc import Awaitable, Callable, Sequence
from contextlib import AsyncExitStack
from dataclasses import dataclass
from functools import partial
from pathlib import Path
from typing import TYPE_CHECKING, Final, Literal, NoReturn, TypeVar

from pydantic import BaseModel, ConfigDict, Field

from meshkit import config, log
from meshkit.client import Channels
from meshkit.clock import Clock, SystemClock
from meshkit.ids import Ids, RandomIds
from meshkit.log import Log
from meshkit.open_streams import OpenStreams
from meshkit.program import Program, run
from meshkit.server import MeshServer, Registration
from meshkit.tls import ClientTls, TlsSettings

if TYPE_CHECKING:  # takes its time to import, and who reads settings alone needs none of it
    from redis.asyncio import Redis

    from meshkit.bus import Bus

# A service that is started again serves after this, even on a busy machine.
_PEERS_RESTART_SECONDS: Final = 5.0
_PRETTY: Final = {"json": False, "pretty": True, "auto": None}


@dataclass(frozen=True)
class Resources:
    """What a process offers to the services in it. Each is made once.

    `build(resources, settings)` in a service's main.py turns these into a
    Service; several services may be built from the same resources.
    """

    # Closes, in reverse order, what services put on it.
    stack: AsyncExitStack
    bus: "Bus"
    redis: "Redis"
    channels: Channels
    clock: Clock
    ids: Ids
    log: Log
    # Where the process may keep files.
    data_dir: Path
    # Of how many streams a log of tasks that is yet to be made shall consist; 1 where
    # None. One that is there stays as it is: another number is refused.
    task_partitions: int | None = None


@dataclass(frozen=True)
class Service:
    """A service, ready to be served."""

    registrations: Sequence[Registration]
    # Jobs that run beside the server. One may end when its work is done; one that
    # fails ends the process.
    background: Sequence[Callable[[], Awaitable[None]]] = ()
    # Jobs that call services of their own accord, such as an executor's. They end
    # first, while what they call still answers.
    callers: Sequence[Callable[[], Awaitable[None]]] = ()


class Section(BaseModel):
    """Base of a service's own settings. Unknown keys are refused."""

    model_config = ConfigDict(extra="forbid", frozen=True, validate_default=True)


class ProcessSettings(config.MeshSettings):
    """What every process needs to know. Subclasses add the sections of their services."""

    # Where the gRPC server listens; `:0` for a free port.
    address: str = "127.0.0.1:0"
    nats_url: str = "nats://127.0.0.1:4222"
    # On how many NATS servers streams are kept: 3 in a cluster.
    nats_replicas: int = Field(default=1, ge=1, le=5)
    # Into how many streams a log of tasks that is yet to be made is cut, by a hash of
    # the tenant; 1 where None. One that is there stays as it is: another number is
    # refused. Only the coordinator and executors look at it.
    task_partitions: int | None = Field(default=None, ge=1, le=1024)
    redis_url: str = "redis://127.0.0.1:6379"
    # The services that this process calls: name and host:port.
    targets: dict[str, str] = Field(default_factory=dict[str, str])
    # Whether a proxy is at those addresses, which repeats what reached no handler.
    proxied: bool = False
    # By which the process serves and calls with mutual TLS; None serves and calls in plain
    # text. Targets are one address each then, as a proxy's is.
    tls: TlsSettings | None = None
    # Where the process may keep files.
    data_dir: Path
    # Stands in for a missing tenant; None refuses calls without one.
    default_tenant: str | None = None
    # Tells this process from others of the same service in logs and on the bus.
    instance: str = ""
    # How long calls in flight may go on after SIGTERM, in seconds.
    drain_seconds: float = Field(default=10.0, ge=0)
    # `auto` is pretty in a terminal and JSON elsewhere.
    log_format: Literal["json", "pretty", "auto"] = "auto"
    log_level: Literal["debug", "info", "warning", "error"] = "info"


S = TypeVar("S", bound=ProcessSettings)


async def resources(settings: ProcessSettings, program: Program, *, name: str) -> Resources:
    """Connects what the process needs. The program's stack closes it all.

    Raises DependencyUnavailable where NATS cannot be reached; Redis is reached
    at first use.
    """
    from meshkit import redis_store
    from meshkit.bus import Bus

    full_name = f"{name}-{settings.instance}" if settings.instance else name
    logger = log.get(full_name, level=settings.log_level, pretty=_PRETTY[settings.log_format])
    settings.data_dir.mkdir(parents=True, exist_ok=True)
    bus = await program.stack.enter_async_context(
        await Bus.connect(
            settings.nats_url, name=full_name, replicas=settings.nats_replicas, log=logger
        )
    )
    redis = redis_store.connect(settings.redis_url)
    program.stack.push_async_callback(redis.aclose)
    channels = await program.stack.enter_async_context(
        Channels(
            settings.targets,
            caller=f"service:{name}",
            patience_seconds=_PEERS_RESTART_SECONDS,
            single_address=settings.proxied,
            tls=ClientTls(settings.tls) if settings.tls else None,
        )
    )
    return Resources(
        stack=program.stack,
        bus=bus,
        redis=redis,
        channels=channels,
        clock=SystemClock(),
        ids=RandomIds(),
        log=logger,
        data_dir=settings.data_dir,
        task_partitions=settings.task_partitions,
    )


def serve_program(
    name: str, settings_class: type[S], build: Callable[[Resources, S], Awaitable[Service]]
) -> NoReturn:
    """The whole of a service's `main`: settings, resources, the service, its server.

    Reads `--config FILE` and the environment. Ends as `program.run` says.
    """

    async def main(program: Program) -> None:
        from meshkit import stored_keys

        settings = config.load(settings_class, path=_config_path(name), environ=os.environ)
        offered = await resources(settings, program, name=name)
        service = await build(offered, settings)
        streams = OpenStreams(partial(stored_keys.revoked, offered.bus), offered.clock)
        server = MeshServer(
            name=name,
            address=settings.address,
            registrations=service.registrations,
            log=offered.log,
            default_tenant=settings.default_tenant,
            drain_seconds=settings.drain_seconds,
            tls=settings.tls,
            streams=streams,
        )
        program.start(streams.follow_keys(), "streams")
        program.serve(server.serve(), "server")
        for number, job in enumerate(service.callers):
            program.serve(_run(job), f"caller-{number}")
        for number, job in enumerate(service.background):
            program.start(_run(job), f"background-{number}")

    run(main)


async def _run(job: Callable[[], Awaitable[None]]) -> None:
    await job()


def _config_path(name: str) -> Path | None:
    parser = argparse.ArgumentParser(prog=name)
    parser.add_argument("--config", type=Path, help="a YAML file with the settings")
    return parser.parse_args().config
