"""No spelling of a path, shape of a request or name of a host leads around what a call takes."""

import asyncio
from pathlib import Path

from meshkit.identity import Role
from tests.gateway.guarded import Guarded, guarded
from tier import ports

# One for operators and one for admins.
_BEYOND = (
    "/agentmesh.access.v1.AccessService/CreateApiKey",
    "/agentmesh.governor.v1.CostGovernorService/Admit",
)
_SPELLINGS = (
    *("{}", "{}?", "{}?a=b", "{}/", "{}#x", "{};a=b", "{}%00", "{}\\", "/{}", "/.{}"),
    *("/v1/..{}", "/healthz/..{}", "/healthz/..%2f{}", "/healthz%2f..{}", "/healthz?{}"),
    *("http://localhost{}", "http://elsewhere.example{}", "/grpc.health.v1.Health/..{}"),
)
_SHAPES = (
    "content-type: application/grpc",
    "content-type: application/grpc-web+proto",
    "content-type: application/json",
    "content-type: application/grpc\ncontent-type: application/json",
    "connection: upgrade, http2-settings\nupgrade: h2c\nhttp2-settings: AAMAAABk",
    "connection: upgrade\nupgrade: websocket\ncontent-type: application/grpc",
    "x-http-method-override: GET",
    "x-original-url: /healthz\nx-rewrite-url: /healthz\ncontent-type: application/grpc",
)
_MESSAGE = bytes(5)


async def test_nothing_leads_around_what_a_call_takes(tmp_path: Path) -> None:
    """A user calls an operator's and an admin's RPCs in every spelling and shape, and with no
    credentials at all; no service hears of any.
    """
    async with guarded(tmp_path) as mesh:
        token = f"authorization: Bearer {mesh.issuer.token(role=Role.USER)}"
        for rpc in _BEYOND:
            for spelling in _SPELLINGS:
                for shape in _SHAPES:
                    head = f"POST {spelling.format(rpc)} HTTP/1.1\nhost: localhost\n{shape}"
                    for who in (token, "accept: */*"):
                        await _sent(mesh, f"{head}\n{who}\ncontent-length: {len(_MESSAGE)}")
        assert '"event":"rpc"' not in mesh.front.log.getvalue()
        lines = mesh.front.gateway.access()
        assert {each["upstream_address"] for each in lines} <= {None}
        # They were heard, and what was refused for its role is most of it.
        assert sum("rbac" in (each["details"] or "") for each in lines) > len(lines) / 4


async def _sent(mesh: Guarded, head: str) -> None:
    """Sends a request as it is written here, and waits for the beginning of an answer."""
    reader, writer = await asyncio.open_connection(ports.HOST, mesh.front.gateway.port)
    try:
        writer.write(head.replace("\n", "\r\n").encode() + b"\r\n\r\n" + _MESSAGE)
        async with asyncio.timeout(60):
            assert (await reader.read(12)).startswith(b"HTTP/1.1 ")
    finally:
        writer.close()
