"""The shipped proxy on free ports, between callers and instances of a test."""

import asyncio
import json
import os
from collections.abc import AsyncGenerator, Sequence
from contextlib import AsyncExitStack, asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.client import Channels
from meshkit.clock import SystemClock
from meshkit.identity import Identity
from meshkit.tls import ClientTls
from meshtest.eventually import eventually
from tests.proxy.instance import CALLEE, Instance
from tier import binaries, envoy_admin, ports
from tier.authority import Authority
from tier.backoff import RestartPolicy
from tier.certificate_files import CertificateFiles
from tier.child import Child
from tier.data_dir import DataDir
from tier.endpoint_files import EndpointFiles
from tier.events import Reporter
from tier.http_get import get
from tier.identities import PROXY, SUPERVISOR
from tier.proxy_child import ACCESS, NAME, proxy_child
from tier.proxy_config import read_shipped
from tier.service_tls import tls_settings


@dataclass(frozen=True, slots=True)
class Proxy:
    """An Envoy that runs the shipped configuration."""

    # By the service that is called.
    ports: dict[str, int]
    # The socket at which it is asked how it is.
    admin: Path
    pid: int
    endpoints: EndpointFiles
    access_log: Path
    # Of all certificates; None where all talk in plain text.
    certificates: Path | None
    instances: dict[str, Instance] = field(default_factory=dict[str, Instance])

    @property
    def target(self) -> str:
        """Of the service that the tests call."""
        return f"{ports.HOST}:{self.ports[CALLEE]}"

    def tls(self, name: str) -> ClientTls:
        """By which a service of that name calls; only where all have certificates."""
        if self.certificates is None:
            raise RuntimeError("in plain text nobody has a certificate")
        return ClientTls(tls_settings(self.certificates, name))

    async def add(self, *names: str) -> None:
        """Starts instances, and returns when the proxy finds them healthy."""
        before = len(self.instances)
        for name, port in zip(names, ports.free_ports(len(names)), strict=True):
            self.instances[name] = Instance(name, port, self.certificates)
            self.instances[name].start()
        self.write([each.port for each in self.instances.values()])
        await eventually(lambda: self.has_healthy(before + len(names)), timeout_seconds=60)

    async def restore(self) -> None:
        """All its instances run, whatever became of them, and the proxy finds them healthy."""
        for each in self.instances.values():
            if not each.alive:
                each.start()
        self.write([each.port for each in self.instances.values()])

        async def all_answer() -> bool:
            async with caller(self.target) as reasoning:
                answered = {await reasoning.embed() for _ in range(8 * len(self.instances))}
            return answered == set(self.instances)

        await eventually(lambda: self.has_healthy(len(self.instances)), timeout_seconds=60)
        await eventually(all_answer, timeout_seconds=60)

    async def leave(self, *names: str) -> None:
        """Returns when the proxy knows these instances alone; the others go on."""
        left = frozenset(self.instances[name].port for name in names)
        self.write(sorted(left))

        async def known() -> bool:
            return await self.known() == left

        await eventually(known, timeout_seconds=60)

    async def start_impostor(self, name: str, certificates: Path) -> None:
        """Starts an instance with certificates of its own; returns when the proxy has tried it."""
        (port,) = ports.free_ports(1)
        failures = (await self.statistics(f"cluster.{CALLEE}."))["ssl.fail_verify_san"]
        self.instances[name] = Instance(name, port, certificates)
        self.instances[name].start()
        self.write([each.port for each in self.instances.values()])

        async def was_refused() -> bool:
            counts = await self.statistics(f"cluster.{CALLEE}.")
            return counts["ssl.fail_verify_san"] > failures

        await eventually(was_refused, timeout_seconds=60)

    def write(self, instances: Sequence[int]) -> None:
        """From now on the service is at these ports."""
        self.endpoints.write(CALLEE, instances)

    async def has_healthy(self, count: int) -> bool:
        """Whether so many instances are in use."""
        return (await self.statistics(f"cluster.{CALLEE}."))["membership_healthy"] == count

    async def known(self) -> frozenset[int]:
        """The ports of the instances that it knows of."""
        return frozenset(await envoy_admin.instances(self.admin, CALLEE))

    async def statistics(self, prefix: str) -> dict[str, int]:
        """Envoy's own counters below a prefix."""
        _, body = await get(self.admin, f"/stats?filter=^{prefix}")
        pairs = (line.split(": ") for line in body.decode().splitlines())
        return {name.removeprefix(prefix): int(value) for name, value in pairs if value.isdigit()}

    def access(self) -> list[dict[str, Any]]:
        """The lines of the access log."""
        return [json.loads(line) for line in self.access_log.read_text().splitlines()]


@asynccontextmanager
async def proxy(folder: Path, *names: str, mtls: bool = False) -> AsyncGenerator[Proxy]:
    """A proxy before instances of these names."""
    data_dir = DataDir(folder / "mesh")
    data_dir.prepare()
    repository = binaries.repository_root()
    listeners = read_shipped(repository)["static_resources"]["listeners"]
    own = ports.free_ports(len(listeners))
    by_service = dict(zip((each["name"] for each in listeners), own, strict=True))
    endpoints = EndpointFiles(data_dir.folder("endpoints"))
    for name in by_service:
        endpoints.write(name, [])
    certificates = data_dir.path / "certificates" if mtls else None
    issued = _issue(certificates) if certificates else None
    spec = proxy_child(
        binaries.find(binaries.ENVOY, os.environ),
        data_dir,
        repository,
        ports=by_service,
        endpoints=endpoints.folder,
        certificates=issued,
    )
    child = Child(spec, Reporter(lambda _: None), RestartPolicy())
    async with AsyncExitStack() as stack:
        stack.push_async_callback(child.stop)
        child.spawn()
        await child.ready()
        running = Proxy(
            by_service,
            envoy_admin.admin_socket(data_dir.run, NAME),
            child.record.pid,
            endpoints,
            data_dir.log_file(ACCESS),
            certificates,
        )
        try:
            await running.add(*names)
            yield running
        finally:
            for each in running.instances.values():
                each.kill()


def _issue(folder: Path) -> CertificateFiles:
    """Certificates for all; the proxy's own."""
    authority = Authority.open(folder, clock=SystemClock())
    for name in (CALLEE, "executor", "memory", "tool", SUPERVISOR):
        authority.issue(name)
    return authority.issue(PROXY)


@dataclass(frozen=True, slots=True)
class Caller:
    """A service that calls through a proxy."""

    stub: Any
    tenant: str = "acme"

    async def embed(self, text: str = "", timeout: float = 60.0) -> str:
        """Has the text done; who answered."""
        with identity.use(Identity(self.tenant, "service:test")):
            return (await self.stub.Embed(pb.EmbedRequest(texts=[text]), timeout=timeout)).model

    async def list(self, timeout: float = 60.0) -> Any:
        """How a call arrived, and at whom."""
        with identity.use(Identity(self.tenant, "service:test")):
            (model,) = (await self.stub.ListModels(pb.ListModelsRequest(), timeout=timeout)).models
            return model

    async def shares(self, calls: int) -> dict[str, float]:
        """How many of so many calls each instance answers, as parts of one."""
        gate = asyncio.Semaphore(16)

        async def one() -> str:
            async with gate:
                return await self.embed()

        answered = await asyncio.gather(*(one() for _ in range(calls)))
        return {name: answered.count(name) / calls for name in set(answered)}


@asynccontextmanager
async def caller(
    target: str,
    name: str = "memory",
    *,
    tenant: str = "acme",
    patience_seconds: float = 5.0,
    tls: ClientTls | None = None,
) -> AsyncGenerator[Caller]:
    """One that says that it is the service `name`, and acts for a tenant."""
    async with Channels(
        {CALLEE: target},
        caller=f"service:{name}",
        patience_seconds=patience_seconds,
        single_address=True,
        tls=tls,
    ) as channels:
        yield Caller(pb_grpc.ReasoningServiceStub(channels.get(CALLEE)), tenant)
