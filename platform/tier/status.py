"""How the processes of a running mesh are."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

from tier import (
    embedded,
    gateway_child,
    nats_child,
    nursery,
    postgres_child,
    proxy_child,
    redis_child,
    triton_child,
    triton_servers,
)
from tier.certificate_files import CERTIFICATES
from tier.data_dir import DataDir
from tier.envoy_admin import admin_socket
from tier.http_get import get
from tier.load import calls_so_far
from tier.options import Tier
from tier.process_use import ProcessUse, Use
from tier.reports import ProcessStatus
from tier.service_tls import ServiceTls
from tier.serving import who_serves_not
from tier.state import MeshState, ProcessRecord
from tier.wakefulness import keeps_awake

_SAMPLE_SECONDS: Final = 0.2
# Of many processes each has less to count.
_STAGING_SAMPLE_SECONDS: Final = 1.0
_EARLIER: Final = (
    "cannot be asked: the mesh was started by an earlier version; end it with `agentmesh down`, "
    "and start it again"
)


async def status(state: MeshState) -> list[ProcessStatus]:
    """Asks each process how it is, and looks at what it uses for a moment."""
    uses = {
        # The supervisor's are processes of the mesh themselves.
        each.name: ProcessUse(each.pid, with_children=each.pid != state.pid)
        for each in state.processes
    }
    sample = _STAGING_SAMPLE_SECONDS if state.tier is Tier.STAGING else _SAMPLE_SECONDS
    before, began = await calls_so_far(state), time.monotonic()
    details, _ = await asyncio.gather(
        asyncio.gather(*(_detail(each, state) for each in state.processes)),
        asyncio.sleep(sample),
    )
    after, seconds = await calls_so_far(state), time.monotonic() - began
    rates = {
        name: (count - before[name]) / seconds
        for name, count in after.items()
        if count >= before.get(name, count + 1)
    }
    return [
        _status(record, uses[record.name].look(), rates.get(record.name), *detail)
        for record, detail in zip(state.processes, details, strict=True)
    ]


def _status(
    record: ProcessRecord, use: Use | None, rate: float | None, fault: str, says: str
) -> ProcessStatus:
    detail = fault or says if use else "is down; the supervisor starts it again"
    return ProcessStatus(
        name=record.name,
        pid=record.pid if use else None,
        version=record.version,
        healthy=use is not None and not fault,
        detail=detail,
        cpu_percent=round(use.cpu_percent, 1) if use else 0.0,
        memory_mb=round(use.memory_mb, 1) if use else 0.0,
        ports=record.ports,
        calls_per_second=round(rate, 1) if use and rate is not None else None,
        listens=use.listens if use else (),
        restarts=record.restarts,
        last_death=record.last_death,
    )


async def _detail(record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    """What is wrong, and what it says of itself."""
    try:
        by_part = _ASK.get(record.name.partition("-")[0], _ask_service)
        return await _ASK.get(record.name, by_part)(record, state)
    except (OSError, TimeoutError) as error:
        return f"does not answer: {str(error) or type(error).__name__}", ""


async def _ask_nats(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    code, body = await get(record.ports[1], "/healthz")
    if code != 200:
        return body.decode("utf-8", "replace").strip(), ""
    always = await nats_child.flushes_every_write(record.ports[1])
    flushed = "at every write" if always else "now and then"
    return "", f"JetStream, flushed to disk {flushed}"


async def _ask_redis(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    if not await redis_child.ready_version(record.ports[0]):
        return "loads its data", ""
    if record.name == redis_child.COUNTERS:
        return "", "append-only file; after a power cut counters are opened from the ledger"
    always = await redis_child.flushes_every_write(record.ports[0])
    flushed = "at every write" if always else "now and then"
    return "", f"append-only file, flushed to disk {flushed}"


async def _ask_postgres(record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    data = state.data_dir / postgres_child.NAME / "data"
    version = await postgres_child.ready_version(record.ports[0], data)
    return ("", "read model and ledger") if version else ("lets nobody in yet", "")


async def _ask_gateway(_record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    who = "whoever has a key or a token" if state.tls_address else "anybody on this machine"
    return await _ask_envoy(state, gateway_child.NAME, f"gRPC, gRPC-web and JSON for {who}")


async def _ask_all_services(_record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    return _faults(await who_serves_not(state.address, state.services), len(state.services))


async def _ask_service(record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    part = record.name.partition("-")[0]
    tls = ServiceTls(state.data_dir / CERTIFICATES, part) if state.mtls else None
    callee = tls.callee if tls else None
    return _faults(await who_serves_not(f"127.0.0.1:{record.ports[0]}", [""], callee), 1)


async def _ask_proxy(_record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    how = "with mutual TLS" if state.mtls else "in plain text"
    return await _ask_envoy(state, proxy_child.NAME, f"calls between services, {how}")


async def _ask_models_gateway(_record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    return await _ask_envoy(state, triton_servers.ENVOY, "the way to the Tritons")


async def _ask_envoy(state: MeshState, name: str, does: str) -> tuple[str, str]:
    if state.admin_address is None:
        return _EARLIER, ""
    code, body = await get(admin_socket(DataDir(state.data_dir).run, name), "/ready")
    return ("", does) if code == 200 else (body.decode("utf-8", "replace").strip(), "")


async def _ask_reporter(_record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    return "", "tells Envoy how busy each Triton is"


async def _ask_triton(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    # Several have addresses of their own, by their numbers.
    number = record.name.partition("-")[2] or "1"
    version = await triton_child.triton_version(record.ports[0], f"127.0.0.{number}")
    return ("", "models loaded") if version else ("does not answer", "")


async def _ask_nursery(_record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    return "", "has imported what services need, and forks them"


async def _ask_supervisor(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    awake = ", keeps the processors awake" if keeps_awake(record.pid) else ""
    return "", f"starts, watches and starts again{awake}"


def _faults(faults: Mapping[str, str], asked: int) -> tuple[str, str]:
    told = "; ".join(f"{name.rpartition('.')[2] or 'it'}: {why}" for name, why in faults.items())
    return told, f"{asked} services serve" if asked > 1 else "serves"


_Ask = Callable[[ProcessRecord, MeshState], Awaitable[tuple[str, str]]]
_ASK: Final[Mapping[str, _Ask]] = {
    nats_child.NAME: _ask_nats,
    redis_child.NAME: _ask_redis,
    redis_child.COUNTERS: _ask_redis,
    postgres_child.NAME: _ask_postgres,
    gateway_child.NAME: _ask_gateway,
    triton_child.NAME: _ask_triton,
    triton_servers.GATEWAY: _ask_models_gateway,
    triton_servers.REPORTER: _ask_reporter,
    proxy_child.NAME: _ask_proxy,
    embedded.NAME: _ask_all_services,
    nursery.NURSERY: _ask_nursery,
    "mesh": _ask_supervisor,
}
