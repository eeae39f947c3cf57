"""The socket at which the Envoy between the services is asked how it is."""

import stat
from pathlib import Path

import psutil

from tests.proxy.running_proxy import proxy
from tier.http_get import get, post


async def test_its_owner_alone_asks_and_is_told_what_the_mesh_wants_to_know(
    tmp_path: Path,
) -> None:
    """No port is open for it, which a page in a browser could reach; other users of the machine
    may not open the socket; and nobody ends the proxy there.
    """
    async with proxy(tmp_path) as running:
        sockets = psutil.Process(running.pid).net_connections("tcp")
        listens = {tuple(each.laddr)[1] for each in sockets if each.status == psutil.CONN_LISTEN}
        assert listens == {*running.ports.values()}
        mode = running.admin.stat().st_mode
        assert stat.S_ISSOCK(mode)
        assert stat.S_IMODE(mode) == 0o600
        assert (await post(running.admin, "/quitquitquit"))[0] == 403
        assert (await get(running.admin, "/ready"))[0] == 200
