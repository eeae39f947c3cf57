"""Who may call whom behind the gateway: every RPC by every process's certificate, at a real mesh.

The table is made from the descriptors and the policy: a new RPC is in it by itself.
"""

import asyncio
import json
from collections.abc import AsyncGenerator, Iterator
from contextlib import asynccontextmanager
from itertools import product
from typing import Final

import grpc
import pytest

from meshtest.eventually import eventually
from tests.mesh.guarded_mesh import GuardedMesh
from tests.mesh.rpc_call import Answer, Rpc, every_rpc
from tier import policy_contracts
from tier.certificate_files import CERTIFICATES, CertificateFiles
from tier.data_dir import DataDir
from tier.identities import GATEWAY, PROXY, SUPERVISOR, host_name
from tier.parts import PARTS
from tier.ports import HOST

pytest_plugins = ["tests.mesh.guarded_fixture"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

_POLICY: Final = policy_contracts.shipped()
_SERVICES: Final = tuple(part.name for part in PARTS)
_EVERYBODY: Final = (*_SERVICES, GATEWAY, PROXY, SUPERVISOR)
_NO_EDGE: Final = "The policy of the mesh does not let this service make this call."
_AT_ONCE: Final = 8
_PATIENCE_SECONDS: Final = 60.0


class _Mesh:
    """Staging, seen by its processes."""

    def __init__(self, guarded: GuardedMesh) -> None:
        self._state: Final = guarded.state
        self.certificates: Final = guarded.folder / CERTIFICATES
        self._run: Final = DataDir(guarded.folder).run

    def at_proxy(self) -> dict[str, int]:
        """The port at which each service is called by others."""
        config = json.loads((self._run / "proxy.json").read_text("utf-8"))
        return {
            each["name"]: each["address"]["socket_address"]["port_value"]
            for each in config["static_resources"]["listeners"]
        }

    def instance(self, part: str) -> int:
        """The port of an instance."""
        return next(each.ports[0] for each in self._state.processes if each.name == part)

    @asynccontextmanager
    async def channel(
        self, port: int, certificate: str, server: str | None = None
    ) -> AsyncGenerator[grpc.aio.Channel]:
        """With a process's certificate, to whoever shows the one of `server`."""
        files = CertificateFiles(self.certificates / certificate)
        own = grpc.ssl_channel_credentials(
            files.authority.read_bytes(), files.key.read_bytes(), files.certificate.read_bytes()
        )
        options = [("grpc.ssl_target_name_override", host_name(server))] if server else []
        async with grpc.aio.secure_channel(f"{HOST}:{port}", own, options=options) as channel:
            yield channel


@pytest.fixture
def mesh(guarded: GuardedMesh) -> _Mesh:
    """Staging as it is started without a word."""
    return _Mesh(guarded)


def _of(part: str) -> Iterator[Rpc]:
    """The RPCs of a part, and those that every server answers."""
    services = next(each.services for each in PARTS if each.name == part)
    for rpc in every_rpc():
        name = rpc.method.containing_service.full_name
        if name in services or name.startswith("grpc."):
            yield rpc


async def _ask(channel: grpc.aio.Channel, part: str, said: str) -> dict[str, Answer]:
    """What each RPC of a part answers to who says that it is the service `said`."""
    slots = asyncio.Semaphore(_AT_ONCE)
    metadata = (
        ("x-agentmesh-tenant", "acme"),
        ("x-agentmesh-caller", f"service:{said}"),
        ("x-agentmesh-role", "admin"),
    )

    async def one(rpc: Rpc) -> tuple[str, Answer]:
        async with slots:

            async def reached() -> Answer:
                answer = await rpc.call(channel, rpc.request(), metadata, most=1)
                # As long as the proxy, on a busy machine, takes no instance for well.
                assert answer.message != "no healthy upstream"
                return answer

            return rpc.path, await eventually(reached, _PATIENCE_SECONDS)

    return dict(await asyncio.gather(*(one(each) for each in _of(part))))


async def test_services_are_called_along_the_edges_of_the_policy_alone(mesh: _Mesh) -> None:
    """At each service's listener each certificate opens the RPCs of its edge, and no other."""
    let_in: dict[tuple[str, str], set[str]] = {}
    for (part, port), caller in product(mesh.at_proxy().items(), _EVERYBODY):
        async with mesh.channel(port, caller) as channel:
            answers = await _ask(channel, part, caller)
        refused = {path for path, each in answers.items() if _is_refused(each)}
        if opened := answers.keys() - refused:
            let_in[caller, part] = opened
        assert not {path for path, each in answers.items() if each.code == "UNAVAILABLE"}
    assert let_in == {(each.caller, each.callee): {*each.paths} for each in _POLICY.edges}


async def test_nobody_is_let_in_for_whom_it_says_it_is(mesh: _Mesh) -> None:
    """A service that says it is the one with the edge is known by its certificate."""
    for (part, port), certificate in product(mesh.at_proxy().items(), _EVERYBODY):
        callers = [each.caller for each in _POLICY.edges if each.callee == part]
        async with mesh.channel(port, certificate) as channel:
            for said in callers:
                if said != certificate:
                    answers = await _ask(channel, part, said)
                    assert {
                        str(each) for each in answers.values() if not _is_refused(each)
                    } == set()


async def test_nobody_is_called_past_the_proxy(mesh: _Mesh) -> None:
    """Services take no call of each other that did not cross it, health and the like included."""
    for part, caller in product(
        ("governor", "reasoning", "memory", "tool", "coordinator"), _SERVICES
    ):
        async with mesh.channel(mesh.instance(part), caller, part) as channel:
            answers = await _ask(channel, part, caller)
        said = f"The caller's certificate is of spiffe://agentmesh.local/{caller}, which may not"
        told = {path: each for path, each in answers.items() if not _is_unknown(each, said)}
        assert told == {}, (part, caller)


async def test_who_shows_no_certificate_gets_no_connection(mesh: _Mesh) -> None:
    """Neither at the proxy nor at an instance, in plain text or in TLS."""
    trusted = CertificateFiles(mesh.certificates / PROXY).authority
    ports = [*mesh.at_proxy().values(), *(mesh.instance(each) for each in mesh.at_proxy())]
    (rpc,) = (each for each in every_rpc() if each.path == "/grpc.health.v1.Health/Check")
    for port in ports:
        secure = grpc.ssl_channel_credentials(trusted.read_bytes())
        for channel in (
            grpc.aio.insecure_channel(f"{HOST}:{port}"),
            grpc.aio.secure_channel(f"{HOST}:{port}", secure),
        ):
            async with channel:
                answer = await rpc.call(channel, rpc.request(), (), timeout_seconds=30)
                assert answer.code == "UNAVAILABLE", port


def _is_refused(answer: Answer) -> bool:
    denied = (answer.code, answer.reason) == ("PERMISSION_DENIED", "FORBIDDEN")
    return denied and answer.message == _NO_EDGE


def _is_unknown(answer: Answer, said: str) -> bool:
    return answer.code == "UNAUTHENTICATED" and answer.message.startswith(said)
