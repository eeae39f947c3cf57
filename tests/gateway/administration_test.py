"""The socket at which the gateway's Envoy is asked how it is, and told to drain."""

import asyncio
import os
import signal
import stat
from pathlib import Path

import psutil
import pytest

from tests.gateway.guarded import Guarded
from tests.gateway.running_gateway import Gateway, gateway
from tier.http_get import get, post

pytest_plugins = ["tests.gateway.shared_gateways"]
pytestmark = pytest.mark.asyncio(loop_scope="session")

# Of the address of a socket, in bytes.
_LONGEST_ADDRESS = 108


@pytest.fixture
def running(mesh: Guarded) -> Gateway:
    """A gateway that asks callers for credentials."""
    return mesh.front.gateway


async def test_its_owner_alone_asks(running: Gateway) -> None:
    """No port is open for it, which a page in a browser could reach, and other users of the
    machine may not open the socket.
    """
    sockets = psutil.Process(running.pid).net_connections("tcp")
    listens = {tuple(each.laddr)[1] for each in sockets if each.status == psutil.CONN_LISTEN}
    assert listens == {running.port, running.tls_port}
    mode = running.admin.stat().st_mode
    assert stat.S_ISSOCK(mode)
    assert stat.S_IMODE(mode) == 0o600


async def test_nobody_ends_it_or_has_it_tell_secrets(running: Gateway) -> None:
    """What the mesh itself asks is answered, and nothing else."""
    for path in (
        *("/quitquitquit", "/quitquitquit?a=/ready", "/logging?level=debug", "/tap"),
        *("/runtime_modify?a=b", "/heapprofiler?enable=y", "/reset_counters"),
    ):
        assert (await post(running.admin, path))[0] == 403, path
    for path in ("/ready", "/server_info", "/clusters?format=json", "/stats?filter=^x$"):
        assert (await get(running.admin, path))[0] == 200, path
    assert (await running.http("GET", "/healthz")).status == 200


async def test_the_next_takes_the_place_of_one_that_was_killed(tmp_path: Path) -> None:
    """The socket that it left is in nobody's way, however deep the folder lies."""
    folder = tmp_path / ("deep" * 30)
    async with gateway(folder, [1]) as killed:
        assert len(str(killed.admin)) > _LONGEST_ADDRESS
        os.kill(killed.pid, signal.SIGKILL)
        await asyncio.to_thread(psutil.Process(killed.pid).wait, 60)
    assert killed.admin.is_socket()
    async with gateway(folder, [1]) as running:
        assert running.admin == killed.admin
        assert (await get(running.admin, "/ready"))[0] == 200
