"""Tests of how a process lives and ends, with real child processes."""

import asyncio
import signal
import sys
import textwrap
from asyncio.subprocess import PIPE, Process
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager
from typing import Any, cast

import pytest
from google.protobuf.wrappers_pb2 import StringValue
from grpc_health.v1 import health_pb2, health_pb2_grpc

from meshkit.client import Channels
from meshtest import echo

_PRELUDE = """
import asyncio, sys
from meshkit import errors, log
from meshkit.config import ConfigError
from meshkit.program import Program, run

def say(text):
    print(text, flush=True)

class Dependency:
    def __init__(self, name):
        self.name = name
    async def __aenter__(self):
        say(f"open {self.name}")
    async def __aexit__(self, *_):
        say(f"close {self.name}")

async def wait(name):
    try:
        await asyncio.Event().wait()
    finally:
        say(f"end {name}")
"""


@asynccontextmanager
async def _child(code: str) -> AsyncGenerator[Process]:
    process = await asyncio.create_subprocess_exec(
        *(sys.executable, "-c", _PRELUDE + textwrap.dedent(code)),
        stdout=PIPE,
        stderr=PIPE,
        env={"PYTHONPATH": ":".join(each for each in sys.path if each)},
    )
    try:
        yield process
    finally:
        if process.returncode is None:
            process.kill()
            await process.wait()


async def _line(process: Process) -> str:
    assert process.stdout is not None
    return (await asyncio.wait_for(process.stdout.readline(), 60)).decode().rstrip("\n")


async def _rest(process: Process) -> tuple[list[str], str, int]:
    out, err = await asyncio.wait_for(process.communicate(), 60)
    return out.decode().splitlines(), err.decode(), process.returncode or 0


_SIBLINGS = """
async def main(program):
    await program.stack.enter_async_context(Dependency("first"))
    await program.stack.enter_async_context(Dependency("second"))
    program.start(wait("job"), "job")
    program.serve(wait("server"), "server")
    await asyncio.sleep(0)
    say("ready")
run(main)
"""


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_ends_servers_then_siblings_then_dependencies(
    number: signal.Signals,
) -> None:
    """The order is: servers, other siblings, dependencies in reverse; the exit code is 0."""
    async with _child(_SIBLINGS) as process:
        while await _line(process) != "ready":
            pass
        process.send_signal(number)
        lines, err, code = await _rest(process)
    assert lines == ["end server", "end job", "close second", "close first"]
    assert (err, code) == ("", 0)


async def test_the_first_failure_ends_the_process() -> None:
    """A sibling that fails ends the others; its message is one line and the exit code is 1."""
    async with _child(
        """
        async def fail():
            await asyncio.sleep(0.01)
            raise errors.DependencyUnavailable("Failed to reach NATS.")
        async def main(program):
            await program.stack.enter_async_context(Dependency("first"))
            program.start(wait("job"), "job")
            program.start(fail(), "fail")
        run(main)
        """
    ) as process:
        lines, err, code = await _rest(process)
    assert lines == ["open first", "end job", "close first"]
    assert (err, code) == ("error: Failed to reach NATS.\n", 1)


async def test_a_wrong_setting_is_one_line() -> None:
    """A ConfigError is told in one line, without a trace."""
    async with _child(
        """
        async def main(program):
            raise ConfigError("mesh.yaml: adress is no setting")
        run(main)
        """
    ) as process:
        _, err, code = await _rest(process)
    assert (err, code) == ("error: mesh.yaml: adress is no setting\n", 1)


async def test_an_unforeseen_failure_shows_its_trace() -> None:
    """What is no message for people comes with its trace."""
    async with _child("async def main(program):\n    1 / 0\nrun(main)\n") as process:
        _, err, code = await _rest(process)
    assert "ZeroDivisionError: division by zero" in err
    assert code == 1


async def test_a_process_whose_work_is_done_ends_by_itself() -> None:
    """When main and all siblings returned, the process ends with 0."""
    async with _child("async def main(program):\n    say('done')\nrun(main)\n") as process:
        assert await _rest(process) == (["done"], "", 0)


_SERVER = """
from meshkit.server import MeshServer
from meshtest import echo

class Slow(echo.EchoServicer):
    async def Say(self, request, context):
        say("called")
        await asyncio.sleep(0.5)
        say("answered")
        return request

async def main(program):
    server = MeshServer(
        name="test", address="127.0.0.1:0", registrations=[echo.registration(Slow())],
        log=log.get("test", level="error"), default_tenant="default", drain_seconds=60,
    )
    await program.stack.enter_async_context(Dependency("store"))
    program.serve(server.serve(), "server")
    await server.started()
    say(server.port)
run(main)
"""


async def test_a_call_in_flight_finishes_after_sigterm() -> None:
    """SIGTERM shows NOT_SERVING, lets the call in flight be answered, then closes the store."""
    async with _child(_SERVER) as process:
        assert await _line(process) == "open store"
        address = f"127.0.0.1:{await _line(process)}"
        async with Channels({"echo": address}, caller="service:test") as channels:
            health: Any = cast(Any, health_pb2_grpc).HealthStub(channels.get("echo"))
            watch = health.Watch(health_pb2.HealthCheckRequest(service=echo.SERVICE), timeout=60)
            assert (await anext(watch)).status == health_pb2.HealthCheckResponse.SERVING
            stub = echo.EchoStub(channels.get("echo"))
            call = asyncio.ensure_future(stub.Say(StringValue(value="x"), timeout=60))
            assert await _line(process) == "called"
            process.send_signal(signal.SIGTERM)
            assert (await anext(watch)).status == health_pb2.HealthCheckResponse.NOT_SERVING
            assert (await call).value == "x"
            watch.cancel()
        lines, err, code = await _rest(process)
    assert lines == ["answered", "close store"]
    assert (err, code) == ("", 0)
