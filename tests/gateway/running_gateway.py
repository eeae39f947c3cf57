"""The shipped gateway on free ports, in front of whatever a test serves."""

import asyncio
import http.client
import io
import json
import os
import secrets
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from meshkit import log
from meshkit.server import MeshServer, Registration
from tests.gateway.stand_in import StandInCoordinator, registrations
from tier import binaries, parts, ports
from tier.backoff import RestartPolicy
from tier.child import Child
from tier.data_dir import DataDir
from tier.envoy_admin import admin_socket
from tier.events import Reporter
from tier.gateway_access import FOLLOWED, Guard
from tier.gateway_child import NAME, gateway_child
from tier.gateway_config import DIRECTORY
from tier.http_get import get


@dataclass(frozen=True, slots=True)
class Answer:
    """What came back over HTTP."""

    status: int
    headers: Mapping[str, str]
    body: bytes

    @property
    def json(self) -> Any:
        """The body, parsed."""
        return json.loads(self.body)


@dataclass(frozen=True, slots=True)
class Trace:
    """One of a test's own, by which it finds its calls in a log."""

    trace_id: str = field(default_factory=lambda: secrets.token_hex(16))

    @property
    def header(self) -> tuple[str, str]:
        """With which a call is of it."""
        return "traceparent", f"00-{self.trace_id}-{'1' * 16}-01"


@dataclass(frozen=True, slots=True)
class Gateway:
    """An Envoy that runs the shipped configuration."""

    port: int
    # The socket at which it is asked how it is.
    admin: Path
    access_log: Path
    # Where the files lie that its limits follow.
    limits: Path
    pid: int
    # Where it takes TLS; None where it asks nobody for credentials.
    tls_port: int | None = None

    @property
    def address(self) -> str:
        """For channels."""
        return f"{ports.HOST}:{self.port}"

    async def http(
        self,
        method: str,
        path: str,
        body: bytes = b"",
        headers: Mapping[str, str] | Sequence[tuple[str, str]] | None = None,
    ) -> Answer:
        """One request over HTTP/1.1; `headers` may hold one more than once."""
        pairs = headers.items() if isinstance(headers, Mapping) else headers or ()

        def exchange() -> Answer:
            connection = http.client.HTTPConnection(ports.HOST, self.port, timeout=60)
            try:
                connection.putrequest(method, path, skip_host="host" in dict(pairs))
                for key, value in pairs:
                    connection.putheader(key, value)
                if body:
                    connection.putheader("content-length", str(len(body)))
                connection.endheaders(body or None)
                answer = connection.getresponse()
                found = {key.lower(): value for key, value in answer.getheaders()}
                return Answer(answer.status, found, answer.read())
            finally:
                connection.close()

        return await asyncio.to_thread(exchange)

    async def post(self, path: str, value: object, **headers: str) -> Answer:
        """JSON there and back."""
        fields = {"content-type": "application/json", **headers}
        return await self.http("POST", path, json.dumps(value).encode(), fields)

    async def statistics(self, prefix: str) -> dict[str, int]:
        """Envoy's own counters below a prefix."""
        _, body = await get(self.admin, f"/stats?filter=^{prefix}")
        pairs = (line.split(": ") for line in body.decode().splitlines())
        return {name.removeprefix(prefix): int(value) for name, value in pairs if value.isdigit()}

    async def followed(self) -> dict[str, str]:
        """The version of each filter's file that it goes by, by the filter's name."""
        _, body = await get(self.admin, "/config_dump?resource=ecds_filters")
        found = json.loads(body).get("configs", [])
        return {each["ecds_filter"]["name"]: each.get("version_info", "") for each in found}

    def access(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]

    def access_of(self, trace: Trace) -> list[dict[str, Any]]:
        """Those of a trace."""
        return [each for each in self.access() if each["trace_id"] == trace.trace_id]


@asynccontextmanager
async def gateway(
    folder: Path, upstream: Sequence[int], *, guard: Guard | None = None
) -> AsyncGenerator[Gateway, None]:
    """A gateway that finds every service at each of these ports.

    With a `guard` it asks callers for credentials, and takes TLS, too.
    """
    data_dir = DataDir(folder / "mesh")
    data_dir.prepare()
    (port,) = ports.free_ports(1)
    endpoints = dict.fromkeys((DIRECTORY, *(part.name for part in parts.PARTS)), upstream)
    child = Child(
        gateway_child(
            binaries.find(binaries.ENVOY, os.environ),
            data_dir,
            binaries.repository_root(),
            port,
            endpoints,
            guard=guard,
        ),
        Reporter(lambda _: None),
        RestartPolicy(),
    )
    child.spawn()
    try:
        await child.ready()
        yield Gateway(
            port,
            admin_socket(data_dir.run, NAME),
            data_dir.log_file("access"),
            data_dir.folder(FOLLOWED),
            child.record.pid,
            guard.tls_port if guard else None,
        )
    finally:
        await child.stop()


@dataclass(frozen=True, slots=True)
class Front:
    """A gateway, and the stand-in behind it."""

    gateway: Gateway
    coordinator: StandInCoordinator
    # Where all services are.
    port: int
    # What the services log: one JSON object a line.
    log: io.StringIO


@asynccontextmanager
async def front(
    folder: Path, *others: Registration, guard: Guard | None = None
) -> AsyncGenerator[Front, None]:
    """A gateway in front of one instance in this process, which serves `others` as well."""
    lines = io.StringIO()
    coordinator = StandInCoordinator("only")
    server = MeshServer(
        name="stand-in",
        address=f"{ports.HOST}:0",
        registrations=[*registrations(coordinator), *others],
        log=log.get("stand-in", stream=lines, pretty=False),
        default_tenant="default",
        drain_seconds=0.5,
    )
    task = asyncio.create_task(server.serve())
    await server.started()
    try:
        async with gateway(folder, [server.port], guard=guard) as running:
            yield Front(running, coordinator, server.port, lines)
    finally:
        task.cancel()
        with suppress(asyncio.CancelledError):
            await task
