"""What it costs to ask callers who they are: 2,000 small calls a second through a gateway.

    ./bazelw run //bench:gateway_access [-- --rate 2000 --seconds 8 --rounds 3]

Health checks, each answered at once by one process behind two gateways as they are shipped: one
that asks nobody and one that asks for credentials, in plain text and with TLS. Keys are checked by
what checks them in a coordinator. Calls start by the clock, whether or not those before them have
been answered. Says for each way to call how many a second were answered, how long that took, and
what the gateway, and the process behind it, used of a processor for each.
"""

import argparse
import asyncio
import contextlib
import json
import os
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import AsyncGenerator, Generator, Mapping, Sequence
from contextlib import AsyncExitStack, asynccontextmanager, contextmanager
from dataclasses import asdict, dataclass
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, Final

import grpc
import psutil
import uvloop
from grpc_health.v1 import health_pb2, health_pb2_grpc

from agentmesh.access.v1.access_service_pb2 import ApiKey
from agentmesh.access.v1.stored_api_key_pb2 import StoredApiKey
from bench.tasks.latencies import Latencies
from cli import servers
from envoyproxy.auth.v3.external_auth_pb2_grpc import add_AuthorizationServicer_to_server
from meshkit import log
from meshkit.api_key import ApiKeyText
from meshkit.clock import SystemClock
from meshkit.identity import Role
from meshkit.server import MeshServer, Registration
from services.coordinator.authorization_service import AuthorizationServicerOfKeys
from services.coordinator.bootstrap_keys import BootstrapKey, BootstrapKeys
from services.coordinator.given_keys import given_keys
from services.coordinator.key_check import KeyCheck
from tests.gateway.credentials import TokenIssuer, authority, guard
from tests.gateway.running_gateway import gateway
from tier import ports

_CHECK: Final = health_pb2.HealthCheckRequest()
_CALL_SECONDS: Final = 10.0
_WARM_UP_SECONDS: Final = 1.0
_START_SECONDS: Final = 20.0
_PAUSE_SECONDS: Final = 0.005
_MOST_IN_FLIGHT: Final = 1000
_KEY_ID: Final = "benchkey"


@dataclass(frozen=True)
class Way:
    """How calls are made, and what a gateway and what is behind it use for them."""

    name: str
    channel: grpc.aio.Channel
    metadata: Sequence[tuple[str, str]]
    gateway: psutil.Process
    behind: psutil.Process


@dataclass(frozen=True)
class Round:
    """What came of calling one way for a while."""

    answered_per_second: float
    failed: float
    p50_ms: float
    p99_ms: float
    # Of a processor, a call.
    gateway_us: float
    behind_us: float


class _Given:
    """The keys of a file, and nobody who counts their use."""

    def __init__(self, keys: Mapping[str, StoredApiKey]) -> None:
        self._keys: Final = keys

    async def find(self, key_id: str) -> StoredApiKey | None:
        return self._keys.get(key_id)

    def note(self, key: ApiKey, time: datetime) -> None:
        """Nothing."""


async def _serve(port: int, keys: Path) -> None:
    """What is behind the gateways."""
    given = _Given(given_keys(keys))
    checks: Any = AuthorizationServicerOfKeys(KeyCheck(given, given, SystemClock()))
    server = MeshServer(
        name="behind",
        address=f"{ports.HOST}:{port}",
        registrations=[
            Registration(
                "envoy.service.auth.v3.Authorization",
                add_AuthorizationServicer_to_server,
                checks,
                guarded=False,
            )
        ],
        log=log.get("behind", level="error", pretty=False),
        default_tenant="default",
    )
    await server.serve()


@contextmanager
def _behind(port: int, keys: Path) -> Generator[psutil.Process]:
    """The same, as a process of its own."""
    environment = {**os.environ, "PYTHONPATH": os.pathsep.join(each for each in sys.path if each)}
    command = [sys.executable, __file__, "--serve", str(port), "--keys", str(keys)]
    with subprocess.Popen(command, env=environment) as process:
        try:
            yield psutil.Process(process.pid)
        finally:
            process.terminate()


@asynccontextmanager
async def _ways(folder: Path) -> AsyncGenerator[list[Way]]:
    key, issuer = ApiKeyText.make(_KEY_ID), TokenIssuer(folder / "jwks.json")
    keys = folder / "keys.json"
    keys.write_text(BootstrapKeys(keys=(_hashed(key),)).model_dump_json())
    port, tls_port = ports.free_ports(2)
    token = ("authorization", f"Bearer {issuer.token()}")
    async with AsyncExitStack() as stack:
        behind = stack.enter_context(_behind(port, keys))
        await _serving(f"{ports.HOST}:{port}")
        guarded = guard(folder, tls_port, (issuer.issuer,))
        opened = await stack.enter_async_context(gateway(folder / "open", [port]))
        asking = await stack.enter_async_context(gateway(folder / "asking", [port], guard=guarded))
        trusted = authority(folder).certificate.read_bytes()
        credentials = grpc.ssl_channel_credentials(trusted)
        channels = {
            "open": grpc.aio.insecure_channel(opened.address),
            "plain": grpc.aio.insecure_channel(asking.address),
            "TLS": grpc.aio.secure_channel(f"localhost:{tls_port}", credentials),
        }
        for each in channels.values():
            stack.push_async_callback(each.close)
        yield [
            Way(name, channels[channel], [header] if header else [], process, behind)
            for name, channel, header, process in (
                ("plain, nobody asked", "open", None, psutil.Process(opened.pid)),
                ("plain, token", "plain", token, psutil.Process(asking.pid)),
                ("TLS, token", "TLS", token, psutil.Process(asking.pid)),
                ("TLS, key", "TLS", ("x-api-key", key.text), psutil.Process(asking.pid)),
            )
        ]


def _hashed(key: ApiKeyText) -> BootstrapKey:
    return BootstrapKey(
        id=key.key_id,
        tenant="acme",
        display_name="bench",
        role=Role.USER,
        secret_sha256=key.digest.hex(),
        ending=key.ending,
        create_time=datetime.now(UTC),
    )


async def _serving(address: str) -> None:
    async with grpc.aio.insecure_channel(address) as channel:
        stub: Any = health_pb2_grpc.HealthStub(channel)
        await stub.Check(_CHECK, timeout=_START_SECONDS, wait_for_ready=True)


async def _round(way: Way, rate: int, seconds: float) -> Round:
    stub: Any = health_pb2_grpc.HealthStub(way.channel)
    latencies = Latencies()
    failed = 0
    running: set[asyncio.Task[None]] = set()

    async def call() -> None:
        nonlocal failed
        begun = time.perf_counter()
        try:
            await stub.Check(_CHECK, timeout=_CALL_SECONDS, metadata=way.metadata)
        except grpc.aio.AioRpcError:
            failed += 1
        else:
            latencies.record(time.perf_counter() - begun)

    before = [_seconds(each) for each in (way.gateway, way.behind)]
    begun, started = time.perf_counter(), 0
    while (passed := time.perf_counter() - begun) < seconds:
        due = int(passed * rate)
        for _ in range(min(due - started, _MOST_IN_FLIGHT - len(running))):
            task = asyncio.ensure_future(call())
            running.add(task)
            task.add_done_callback(running.discard)
            started += 1
        await asyncio.sleep(_PAUSE_SECONDS)
    await asyncio.gather(*running)
    passed = time.perf_counter() - begun
    used = [
        _seconds(each) - earlier
        for each, earlier in zip((way.gateway, way.behind), before, strict=True)
    ]
    return Round(
        answered_per_second=latencies.count / passed,
        failed=failed,
        p50_ms=latencies.percentile_ms(50),
        p99_ms=latencies.percentile_ms(99),
        gateway_us=used[0] * 1e6 / started,
        behind_us=used[1] * 1e6 / started,
    )


def _seconds(process: psutil.Process) -> float:
    times = process.cpu_times()
    return times.user + times.system


async def _measure(rate: int, seconds: float, rounds: int) -> Mapping[str, Mapping[str, float]]:
    found: dict[str, list[Round]] = {}
    with tempfile.TemporaryDirectory(prefix="agentmesh-bench-") as folder:
        async with _ways(Path(folder)) as ways:
            for way in ways:
                await _round(way, rate, _WARM_UP_SECONDS)
            for _ in range(rounds):
                for way in ways:
                    found.setdefault(way.name, []).append(await _round(way, rate, seconds))
    return {name: _median(each) for name, each in found.items()}


def _median(rounds: Sequence[Round]) -> Mapping[str, float]:
    values = [asdict(each) for each in rounds]
    return {key: round(statistics.median(each[key] for each in values), 2) for key in values[0]}


def main() -> None:
    """Measures, or serves what is measured."""
    parser = argparse.ArgumentParser(description=__doc__)
    parser.add_argument("--rate", type=int, default=2000, help="calls a second")
    parser.add_argument("--seconds", type=float, default=8.0, help="of a round")
    parser.add_argument("--rounds", type=int, default=3, help="of each way")
    parser.add_argument("--serve", type=int, help=argparse.SUPPRESS)
    parser.add_argument("--keys", type=Path, help=argparse.SUPPRESS)
    chosen = parser.parse_args()
    servers.provide(os.environ)
    if chosen.serve:
        with contextlib.suppress(KeyboardInterrupt):
            uvloop.run(_serve(chosen.serve, chosen.keys))
        return
    print(json.dumps(uvloop.run(_measure(chosen.rate, chosen.seconds, chosen.rounds)), indent=2))


if __name__ == "__main__":
    main()
