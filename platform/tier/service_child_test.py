"""How a service is run as a child, and asked whether it serves."""

import asyncio
import io
from contextlib import suppress
from pathlib import Path

import yaml

from meshkit import log
from meshkit.clock import SystemClock
from meshkit.server import MeshServer
from meshkit.tls import TlsSettings
from meshtest.child_server import free_port
from tier.authority import Authority
from tier.data_dir import DataDir
from tier.service_child import service_child
from tier.service_tls import ServiceTls
from tier.version import VERSION


async def test_a_child_is_told_of_its_certificate_and_asked_with_another(tmp_path: Path) -> None:
    """Its settings name its files and its peers; the probe is the supervisor's."""
    folder = DataDir(tmp_path)
    folder.prepare()
    authority = Authority.open(tmp_path / "certificates", clock=SystemClock())
    tool, _ = authority.issue("tool"), authority.issue("supervisor")
    port = free_port()
    spec = service_child(
        folder,
        "tool-2",
        port,
        program=("services.tool.main",),
        values={"data_dir": str(tmp_path)},
        tls=ServiceTls(tmp_path / "certificates", "tool"),
    )
    told = yaml.safe_load((folder.run / "tool-2.yaml").read_text())
    assert told["tls"] == {
        "certificate": str(tool.certificate),
        "key": str(tool.key),
        "authority": str(tool.authority),
        "peers": [
            "spiffe://agentmesh.local/gateway",
            "spiffe://agentmesh.local/proxy",
            "spiffe://agentmesh.local/supervisor",
        ],
    }
    assert await spec.probe() is None
    server = MeshServer(
        name="tool",
        address=told["address"],
        registrations=[],
        log=log.get("test", stream=io.StringIO()),
        default_tenant="default",
        tls=TlsSettings(**told["tls"]),
    )
    task = asyncio.create_task(server.serve())
    await server.started()
    assert await spec.probe() == VERSION
    task.cancel()
    with suppress(asyncio.CancelledError):
        await task


async def test_without_certificates_all_is_in_plain_text(tmp_path: Path) -> None:
    """As in a prototype: nothing is said of TLS."""
    folder = DataDir(tmp_path)
    folder.prepare()
    service_child(folder, "tool", free_port(), program=("services.tool.main",), values={})
    assert "tls" not in yaml.safe_load((folder.run / "tool.yaml").read_text())
