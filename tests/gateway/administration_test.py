"""What the port of Envoy's administration does for whoever reaches it."""

from pathlib import Path

from tests.gateway.guarded import guarded
from tier.http_get import get, post


async def test_nobody_ends_it_or_has_it_tell_secrets(tmp_path: Path) -> None:
    """Any user of the machine, or page in a browser, can send these: they do nothing. What the
    mesh itself asks is answered.
    """
    async with guarded(tmp_path) as mesh:
        port = mesh.front.gateway.admin_port
        for path in (
            *("/quitquitquit", "/quitquitquit?a=/ready", "/logging?level=debug", "/tap"),
            *("/runtime_modify?a=b", "/heapprofiler?enable=y", "/reset_counters"),
        ):
            assert (await post(port, path))[0] == 403, path
        for path in ("/ready", "/server_info", "/clusters?format=json", "/stats?filter=^x$"):
            assert (await get(port, path))[0] == 200, path
        assert (await mesh.front.gateway.http("GET", "/healthz")).status == 200
