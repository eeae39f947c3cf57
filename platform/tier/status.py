"""How the processes of a running mesh are."""

import asyncio
from collections.abc import Awaitable, Callable, Mapping
from typing import Final

import psutil

from tier import (
    embedded,
    gateway_child,
    nats_child,
    nursery,
    proxy_child,
    redis_child,
    triton_child,
    triton_servers,
)
from tier.certificate_files import CERTIFICATES
from tier.http_get import get
from tier.reports import ProcessStatus
from tier.service_tls import ServiceTls
from tier.serving import who_serves_not
from tier.state import MeshState, ProcessRecord

_SAMPLE_SECONDS: Final = 0.2
_MEGABYTE: Final = 1024 * 1024


async def status(state: MeshState) -> list[ProcessStatus]:
    """Asks each process how it is, and looks at what it uses for a moment."""
    processes = {each.name: _process(each.pid) for each in state.processes}
    for each in processes.values():
        if each:
            each.cpu_percent()
    details, _ = await asyncio.gather(
        asyncio.gather(*(_detail(each, state) for each in state.processes)),
        asyncio.sleep(_SAMPLE_SECONDS),
    )
    return [
        _status(record, processes[record.name], fault, says)
        for record, (fault, says) in zip(state.processes, details, strict=True)
    ]


def _status(
    record: ProcessRecord, process: psutil.Process | None, fault: str, says: str
) -> ProcessStatus:
    cpu_percent = memory_mb = 0.0
    alive = False
    if process:
        try:
            with process.oneshot():
                cpu_percent = process.cpu_percent()
                memory_mb = process.memory_info().rss / _MEGABYTE
                alive = process.status() != psutil.STATUS_ZOMBIE
        except psutil.Error:
            alive = False
    return ProcessStatus(
        name=record.name,
        pid=record.pid if alive else None,
        version=record.version,
        healthy=alive and not fault,
        detail=(fault or says) if alive else "is down; the supervisor starts it again",
        cpu_percent=round(cpu_percent, 1),
        memory_mb=round(memory_mb, 1),
        ports=record.ports,
    )


def _process(pid: int) -> psutil.Process | None:
    try:
        return psutil.Process(pid)
    except psutil.Error:
        return None


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
    version = await redis_child.ready_version(record.ports[0])
    return ("", "append-only file") if version else ("loads its data", "")


async def _ask_gateway(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    code, body = await get(record.ports[-1], "/ready")
    said = body.decode("utf-8", "replace").strip()
    return ("", "gRPC, gRPC-web and JSON") if code == 200 else (said, "")


async def _ask_all_services(_record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    return _faults(await who_serves_not(state.address, state.services), len(state.services))


async def _ask_service(record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    part = record.name.partition("-")[0]
    tls = ServiceTls(state.data_dir / CERTIFICATES, part) if state.mtls else None
    callee = tls.callee if tls else None
    return _faults(await who_serves_not(f"127.0.0.1:{record.ports[0]}", [""], callee), 1)


async def _ask_proxy(record: ProcessRecord, state: MeshState) -> tuple[str, str]:
    code, body = await get(record.ports[-1], "/ready")
    said = body.decode("utf-8", "replace").strip()
    how = "with mutual TLS" if state.mtls else "in plain text"
    return ("", f"calls between services, {how}") if code == 200 else (said, "")


async def _ask_models_gateway(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    code, body = await get(record.ports[1], "/ready")
    said = body.decode("utf-8", "replace").strip()
    return ("", "the way to the Tritons") if code == 200 else (said, "")


async def _ask_reporter(_record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    return "", "tells Envoy how busy each Triton is"


async def _ask_triton(record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    # Several have addresses of their own, by their numbers.
    number = record.name.partition("-")[2] or "1"
    version = await triton_child.triton_version(record.ports[0], f"127.0.0.{number}")
    return ("", "models loaded") if version else ("does not answer", "")


async def _ask_nursery(_record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    return "", "has imported what services need, and forks them"


async def _ask_supervisor(_record: ProcessRecord, _state: MeshState) -> tuple[str, str]:
    return "", "starts, watches and starts again"


def _faults(faults: Mapping[str, str], asked: int) -> tuple[str, str]:
    told = "; ".join(f"{name.rpartition('.')[2] or 'it'}: {why}" for name, why in faults.items())
    return told, f"{asked} services serve" if asked > 1 else "serves"


_Ask = Callable[[ProcessRecord, MeshState], Awaitable[tuple[str, str]]]
_ASK: Final[Mapping[str, _Ask]] = {
    nats_child.NAME: _ask_nats,
    redis_child.NAME: _ask_redis,
    gateway_child.NAME: _ask_gateway,
    triton_child.NAME: _ask_triton,
    triton_servers.GATEWAY: _ask_models_gateway,
    triton_servers.REPORTER: _ask_reporter,
    proxy_child.NAME: _ask_proxy,
    embedded.NAME: _ask_all_services,
    nursery.NURSERY: _ask_nursery,
    "mesh": _ask_supervisor,
}
