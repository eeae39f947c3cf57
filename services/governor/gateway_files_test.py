"""The files that gateways read."""

import asyncio
import io
import json
from collections.abc import Callable
from pathlib import Path

from meshkit import log
from meshtest.eventually import eventually
from services.governor.gateway_files import GatewayFiles
from tasklog.policy import Policy, built_in, policy_of


class _Policies:
    """The built-in policy."""

    current: Policy = policy_of(built_in())

    def on_change(self, listener: Callable[[], None]) -> None:
        """It never does."""


async def test_a_file_that_is_no_text_is_written_anew(tmp_path: Path) -> None:
    """A disk that lost its end, say, does not end the governor."""
    path = tmp_path / "limits.json"
    path.write_bytes(b"\xff\xfe\x00")
    files = GatewayFiles(
        tmp_path,
        _Policies(),
        lambda policy: {"limits": {"tier": policy.message.default_tenant_tier}},
        log.get("test", stream=io.StringIO()),
    )
    task = asyncio.create_task(files.keep())

    await eventually(lambda: task.done() or b"standard" in path.read_bytes())
    assert not task.done()
    assert json.loads(path.read_text())["resources"][0]["name"] == "limits"
    task.cancel()
    await asyncio.gather(task, return_exceptions=True)
