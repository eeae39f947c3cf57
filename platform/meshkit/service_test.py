"""Tests of a service as a process of its own."""

import asyncio
import os
import signal
import sys
from asyncio.subprocess import PIPE
from pathlib import Path

from google.protobuf.wrappers_pb2 import StringValue

from meshkit.client import Channels
from meshtest import echo
from meshtest.child_server import free_port
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer

pytest_plugins = ["meshtest.fixtures"]

_PROGRAM = """
import asyncio
from google.protobuf.wrappers_pb2 import StringValue
from pydantic import Field
from meshkit.redis_store import RedisDependency
from meshkit.service import ProcessSettings, Section, Service, serve_program
from meshtest import echo

class EchoSettings(Section):
    suffix: str = "!"

class Settings(ProcessSettings):
    echo: EchoSettings = Field(default_factory=EchoSettings)

class Suffixed(echo.EchoServicer):
    def __init__(self, suffix):
        self.suffix = suffix
    async def Say(self, request, context):
        return StringValue(value=request.value + self.suffix)

async def tick():
    try:
        await asyncio.Event().wait()
    finally:
        print("background ended", flush=True)

async def build(resources, section):
    registration = echo.registration(
        Suffixed(section.suffix), resources.bus, RedisDependency(resources.redis))
    return Service([registration], [tick])

serve_program("echo", Settings, lambda resources, settings: build(resources, settings.echo))
"""


async def _start(environ: dict[str, str], *arguments: str) -> asyncio.subprocess.Process:
    return await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PROGRAM, *arguments),
        stdout=PIPE,
        stderr=PIPE,
        env={"PYTHONPATH": os.pathsep.join(each for each in sys.path if each), **environ},
    )


async def test_a_service_runs_from_its_settings_until_sigterm(
    tmp_path: Path, nats_server: NatsServer, redis_server: RedisServer
) -> None:
    """File and environment are read, the service answers, and SIGTERM ends it with 0."""
    port = free_port()
    settings = tmp_path / "mesh.yaml"
    settings.write_text(f"address: 127.0.0.1:{port}\ndata_dir: {tmp_path / 'data'}\n")
    process = await _start(
        {
            "AGENTMESH_NATS_URL": nats_server.url,
            "AGENTMESH_REDIS_URL": redis_server.url,
            "AGENTMESH_DEFAULT_TENANT": "default",
            "AGENTMESH_ECHO__SUFFIX": "?",
            "AGENTMESH_LOG_LEVEL": "warning",
        },
        *("--config", str(settings)),
    )
    try:
        async with Channels({"echo": f"127.0.0.1:{port}"}, caller="service:test") as channels:
            await asyncio.wait_for(channels.get("echo").channel_ready(), 60)
            stub = echo.EchoStub(channels.get("echo"))
            assert (await stub.Say(StringValue(value="a"), timeout=60)).value == "a?"
        process.send_signal(signal.SIGTERM)
        out, err = await asyncio.wait_for(process.communicate(), 60)
    finally:
        if process.returncode is None:
            process.kill()
    assert (out.decode(), err.decode(), process.returncode) == ("background ended\n", "", 0)


async def test_a_wrong_setting_ends_the_service_in_one_line(tmp_path: Path) -> None:
    """A misspelt variable is named with its nearest neighbour, and the exit code is 1."""
    process = await _start({"AGENTMESH_DATA_DIR": str(tmp_path), "AGENTMESH_ECHO__SUFIX": "?"})
    _, err = await asyncio.wait_for(process.communicate(), 60)
    assert process.returncode == 1
    assert err.decode() == (
        "error: environment: AGENTMESH_ECHO__SUFIX is no setting;"
        " did you mean AGENTMESH_ECHO__SUFFIX?\n"
    )
