"""A gateway that asks for credentials, with those who give them."""

from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

import grpc

from agentmesh.coordinator.v1 import coordinator_service_pb2_grpc
from envoyproxy.auth.v3 import external_auth_pb2, external_auth_pb2_grpc
from meshkit.server import Registration
from meshtest.clock import FakeClock
from tests.gateway.credentials import TokenIssuer, guard
from tests.gateway.running_gateway import Front, front
from tier import gateway_access, ports
from tier.events import Phase
from tier.gateway_access import Guard, Issuer

# Texts of the right form, which mean what the stand-in is told.
KEY: Final = f"amk_01jd0000key1_{'s' * 43}"
OTHER_KEY: Final = f"amk_01jd0000key2_{'t' * 43}"

_Servicer: Any = external_auth_pb2_grpc.AuthorizationServicer


class StandInAuthorization(_Servicer):
    """Knows the keys that a test gives it; the coordinator's contract, and nobody else's keys."""

    def __init__(self) -> None:
        self.known: dict[str, Mapping[str, str]] = {}
        # Whether it cannot tell.
        self.fails = False
        # The headers of every request that it was asked about.
        self.asked: list[dict[str, str]] = []

    def forget(self) -> None:
        """Is as it was in the beginning."""
        self.known.clear()
        self.asked.clear()
        self.fails = False

    async def Check(self, request: Any, context: Any) -> Any:
        """The caller whose key it is, or UNAUTHENTICATED."""
        headers = dict(request.attributes.request.http.headers)
        self.asked.append(headers)
        if self.fails:
            await context.abort(grpc.StatusCode.UNAVAILABLE, "Not now.")
        text = headers.get("x-api-key") or headers["authorization"].removeprefix("Bearer ")
        answer = external_auth_pb2.CheckResponse()
        if text not in self.known:
            answer.status.code = 16
            answer.denied_response.status.code = 401
            answer.denied_response.body = "The API key is unknown."
            return answer
        for name, value in self.known[text].items():
            header = answer.ok_response.headers.add().header
            header.key, header.value = name, value
        return answer


@dataclass(frozen=True)
class Guarded:
    """A guarded gateway."""

    front: Front
    guard: Guard
    issuer: TokenIssuer
    keys: StandInAuthorization
    # Where its files lie.
    folder: Path
    # A plain one to the gateway.
    channel: grpc.aio.Channel
    clock: FakeClock = field(default_factory=FakeClock)
    # What there was to be said of issuers' keys.
    reports: list[tuple[str, Phase, str]] = field(default_factory=list[tuple[str, Phase, str]])

    @property
    def stub(self) -> Any:
        """The coordinator over the plain channel."""
        return coordinator_service_pb2_grpc.CoordinatorServiceStub(self.channel)

    def forget(self) -> None:
        """No key is known, and nobody has called."""
        self.keys.forget()
        self.front.coordinator.forget()

    def knows(self, text: str, **others: str) -> None:
        """A key of the tenant acme becomes known."""
        self.keys.known[text] = {
            "x-agentmesh-tenant": "acme",
            "x-agentmesh-caller": f"key:{text.split('_')[1]}",
            "x-agentmesh-role": "user",
            **{f"x-agentmesh-{name}": value for name, value in others.items()},
        }

    async def keep(self) -> None:
        """Has the gateway go by the issuers' keys as they change, by this clock."""

        def report(name: str, phase: Phase, text: str) -> None:
            self.reports.append((name, phase, text))

        await gateway_access.keep(
            self.front.gateway.limits, self.guard, clock=self.clock, report=report
        )


@asynccontextmanager
async def guarded(
    folder: Path, also: Sequence[Issuer] = (), **others: Any
) -> AsyncGenerator[Guarded, None]:
    """A guarded gateway in front of a stand-in.

    `also` are issuers whose tokens are good beside the mesh's own, and `others` of its guard.
    """
    issuer = TokenIssuer(folder / "jwks.json")
    (tls_port,) = ports.free_ports(1)
    asks = guard(folder, tls_port, (issuer.issuer, *also), **others)
    keys = StandInAuthorization()
    served = Registration(
        "envoy.service.auth.v3.Authorization",
        external_auth_pb2_grpc.add_AuthorizationServicer_to_server,
        keys,
        guarded=False,
    )
    async with (
        front(folder, served, guard=asks) as running,
        grpc.aio.insecure_channel(running.gateway.address) as channel,
    ):
        yield Guarded(running, asks, issuer, keys, folder, channel)
