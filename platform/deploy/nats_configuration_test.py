"""NATS with the configuration that is installed: three servers that lose nothing of one."""

import asyncio
import contextlib
import json
import os
import signal
import socket
import urllib.request
from collections.abc import AsyncGenerator
from pathlib import Path
from typing import Any, Final, cast

import nats
import pytest

from deploy.overlays import one, rendered
from meshtest.eventually import eventually

# Its types say less than is there.
_nats: Final = cast(Any, nats)
_SERVERS: Final = 3
_PATIENCE_SECONDS: Final = 60.0
# Within it there are several attempts.
_ATTEMPT_SECONDS: Final = 5.0


def _text() -> str:
    return one(rendered("production"), "ConfigMap", "nats-config")["data"]["nats.conf"]


def _binary() -> str:
    found = os.environ.get("NATS_SERVER")
    if not found:
        pytest.skip("NATS_SERVER names no nats-server.")
    return found


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        sockets = [stack.enter_context(socket.socket()) for _ in range(count)]
        for each in sockets:
            each.bind(("127.0.0.1", 0))
        return [int(each.getsockname()[1]) for each in sockets]


async def _check(text: str, folder: Path) -> str:
    file = folder / "nats.conf"
    file.write_text(text)
    process = await asyncio.create_subprocess_exec(
        _binary(),
        *("-t", "-c", file),
        env={"POD_NAME": "nats-0"},
        stderr=asyncio.subprocess.PIPE,
    )
    _, said = await process.communicate()
    return said.decode()


async def test_the_server_takes_the_configuration(tmp_path: Path) -> None:
    """As it is installed; and it would say so if a word of it were wrong."""
    assert "configuration file" in await _check(_text(), tmp_path)
    planted = _text().replace("sync_interval", "sync_intervals")
    assert "unknown field" in await _check(planted, tmp_path)


def _moved(ports: list[list[int]], number: int, store: Path) -> str:
    """The installed configuration with places of this machine, and nothing else changed."""
    client, monitor, peers = ports[number]
    text = _text()
    moves = {
        "port: 4222": f'host: "127.0.0.1"\nport: {client}',
        "http_port: 8222": f'http: "127.0.0.1:{monitor}"',
        'store_dir: "/data"': f"store_dir: {json.dumps(str(store))}",
        "port: 6222": f'host: "127.0.0.1"\n  port: {peers}',
        **{f"nats-{each}.nats-peers:6222": f"127.0.0.1:{own[2]}" for each, own in enumerate(ports)},
    }
    for old, new in moves.items():
        assert text.count(old) == 1, old
        text = text.replace(old, new)
    return text


@contextlib.asynccontextmanager
async def _cluster(
    folder: Path,
) -> AsyncGenerator[tuple[list[asyncio.subprocess.Process], list[list[int]]]]:
    free = _free_ports(3 * _SERVERS)
    ports = [free[3 * each : 3 * each + 3] for each in range(_SERVERS)]
    processes: list[asyncio.subprocess.Process] = []
    try:
        for number in range(_SERVERS):
            file = folder / f"nats-{number}.conf"
            file.write_text(_moved(ports, number, folder / f"store-{number}"))
            processes.append(
                await asyncio.create_subprocess_exec(
                    _binary(),
                    *("-c", file),
                    env={"POD_NAME": f"nats-{number}"},
                    stderr=asyncio.subprocess.DEVNULL,
                )
            )
        yield processes, ports
    finally:
        for each in processes:
            if each.returncode is None:
                each.kill()
            await each.wait()


async def test_what_was_acknowledged_is_there_without_one_server(tmp_path: Path) -> None:
    """A stream of three replicas: the leader is killed, and nothing is missing."""
    async with _cluster(tmp_path) as (processes, ports), asyncio.timeout(4 * _PATIENCE_SECONDS):
        client = await _nats.connect(
            [f"nats://127.0.0.1:{own[0]}" for own in ports], connect_timeout=_PATIENCE_SECONDS
        )
        stream = client.jetstream(timeout=_ATTEMPT_SECONDS)
        info = await _made(stream)
        for number in range(20):
            await stream.publish("kept.a", str(number).encode(), timeout=_PATIENCE_SECONDS)
        leader = int(info.cluster.leader.removeprefix("nats-"))
        varz = await asyncio.to_thread(_varz, ports[leader][1])
        assert varz["jetstream"]["config"]["sync_always"] is True
        processes[leader].send_signal(signal.SIGKILL)
        await processes[leader].wait()
        assert (await _still_there(stream)).state.messages == 20
        await client.close()


async def _made(stream: Any) -> Any:
    async def answered() -> Any:
        try:
            return await stream.add_stream(name="KEPT", subjects=["kept.*"], num_replicas=3)
        except (_nats.errors.Error, TimeoutError):
            return None  # the servers have to find each other first

    return await eventually(answered, timeout_seconds=_PATIENCE_SECONDS)


async def _still_there(stream: Any) -> Any:
    async def answered() -> Any:
        try:
            return await stream.stream_info("KEPT")
        except (_nats.errors.Error, TimeoutError):
            return None  # those that are left have to agree on a leader

    return await eventually(answered, timeout_seconds=_PATIENCE_SECONDS)


def _varz(port: int) -> Any:
    with urllib.request.urlopen(
        f"http://127.0.0.1:{port}/varz", timeout=_PATIENCE_SECONDS
    ) as answer:
        return json.load(answer)
