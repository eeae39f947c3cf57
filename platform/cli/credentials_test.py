"""What commands show the gateway, and to whom they do not show it."""

import json
import os
from collections.abc import AsyncIterator
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import grpc
import jwt
import pytest

from agentmesh.access.v1 import access_service_pb2 as pb
from agentmesh.access.v1.access_service_pb2_grpc import (
    AccessServiceServicer,
    add_AccessServiceServicer_to_server,
)
from cli.command_mesh import Commands
from meshkit.clock import SystemClock
from meshkit.ids import RandomIds
from meshkit.server import Registration
from meshtest.serving import serving
from tier import access_bootstrap
from tier.access_files import AccessFiles
from tier.authority import Authority
from tier.options import Tier
from tier.state import MeshState, start_ticks, write_state

_KEY = "amk_abcdefgh_" + "s" * 43


class _Access(AccessServiceServicer):
    """Notes what callers show."""

    def __init__(self) -> None:
        self.shown: list[str] = []

    async def ListApiKeys(
        self, request: pb.ListApiKeysRequest, context: Any
    ) -> pb.ListApiKeysResponse:
        metadata = dict(context.invocation_metadata())
        self.shown.append(metadata.get("authorization", ""))
        return pb.ListApiKeysResponse()


def _registration(access: _Access) -> Registration:
    return Registration(
        "agentmesh.access.v1.AccessService", add_AccessServiceServicer_to_server, access
    )


@pytest.fixture
async def access() -> _Access:
    return _Access()  # pyright: ignore[reportAbstractUsage]


@pytest.fixture
async def commands(access: _Access) -> AsyncIterator[Commands]:
    """A mesh that notes what it is shown."""
    async with serving([_registration(access)]) as channels:
        yield Commands(channels.address("gateway"))


@pytest.fixture
def owned(tmp_path: Path) -> AccessFiles:
    """The credentials of a mesh."""
    return access_bootstrap.prepare(tmp_path, clock=SystemClock(), ids=RandomIds())


def _runs(data_dir: Path, address: str, tls_address: str | None) -> None:
    """A mesh runs on the data directory, as far as commands can see."""
    (data_dir / "run").mkdir(exist_ok=True)
    ticks = start_ticks(os.getpid())
    assert ticks is not None
    write_state(
        MeshState(
            pid=os.getpid(),
            process_start_ticks=ticks,
            tier=Tier.STAGING,
            version="1",
            started=datetime.now(UTC),
            data_dir=data_dir,
            address=address,
            tls_address=tls_address,
            admin_address=None,
            config=None,
            processes=(),
            notes=(),
            services=(),
        )
    )


async def test_a_file_is_shown(commands: Commands, access: _Access, tmp_path: Path) -> None:
    """The key in it, without the line's end; --key counts more than the environment."""
    (tmp_path / "my.key").write_text(f"{_KEY}\n")
    result = await commands.run("key", "list", "--key", str(tmp_path / "my.key"))
    assert result.exit_code == 0
    assert access.shown == [f"Bearer {_KEY}"]


async def test_the_environment_is_shown(
    commands: Commands, access: _Access, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """AGENTMESH_API_KEY, unless a file is named; an empty one is none."""
    monkeypatch.setenv("AGENTMESH_API_KEY", "from-the-environment")
    await commands.run("key", "list")
    (tmp_path / "my.key").write_text(_KEY)
    await commands.run("key", "list", "--key", str(tmp_path / "my.key"))
    monkeypatch.setenv("AGENTMESH_API_KEY", "")
    await commands.run("key", "list", "--data-dir", str(tmp_path))
    assert access.shown == ["Bearer from-the-environment", f"Bearer {_KEY}", ""]


async def test_a_variable_that_holds_no_key(
    commands: Commands, monkeypatch: pytest.MonkeyPatch
) -> None:
    """It is named, its value is not."""
    monkeypatch.setenv("AGENTMESH_API_KEY", "two words, and a secret")
    result = await commands.run("key", "list")
    assert result.exit_code == 1
    assert result.stderr == (
        "error: AGENTMESH_API_KEY holds no API key and no token. It must be one, alone.\n"
    )


async def test_the_owner_is_let_in(
    commands: Commands, access: _Access, tmp_path: Path, owned: AccessFiles
) -> None:
    """A mesh of this data directory that asks who calls is shown its owner's key."""
    _runs(tmp_path, commands.gateway, "127.0.0.1:8443")
    result = await commands.run("key", "list", "--data-dir", str(tmp_path))
    assert result.exit_code == 0
    assert access.shown == [f"Bearer {owned.local_key.read_text().strip()}"]


async def test_the_owner_acts_for_any_tenant(
    commands: Commands, access: _Access, tmp_path: Path, owned: AccessFiles
) -> None:
    """For another tenant than the key's, the command signs a token for itself."""
    _runs(tmp_path, commands.gateway, "127.0.0.1:8443")
    await commands.run("key", "list", "--data-dir", str(tmp_path), "--tenant", "acme")

    (known,) = jwt.PyJWKSet.from_dict(json.loads(owned.jwks.read_text())).keys
    token = access.shown[0].removeprefix("Bearer ")
    claims: dict[str, Any] = jwt.decode(token, known, algorithms=["ES256"], audience="agentmesh")
    assert (claims["tenant"], claims["role"]) == ("acme", "admin")


async def test_who_may_not_read_the_key_shows_none(
    commands: Commands, access: _Access, tmp_path: Path
) -> None:
    """The gateway says then what it takes."""
    _runs(tmp_path, commands.gateway, "127.0.0.1:8443")
    await commands.run("key", "list", "--data-dir", str(tmp_path))
    await commands.run("key", "list", "--data-dir", str(tmp_path), "--tenant", "acme")
    assert access.shown == ["", ""]


@pytest.mark.parametrize(
    ("address", "tls_address"),
    [
        # Another mesh runs on the data directory.
        ("127.0.0.1:1", "127.0.0.1:2"),
        # It asks nobody who calls.
        (None, None),
    ],
)
async def test_nobody_else_is_shown_the_owners_key(
    commands: Commands,
    access: _Access,
    tmp_path: Path,
    owned: AccessFiles,
    address: str | None,
    tls_address: str | None,
) -> None:
    """Neither another port of this machine, nor a mesh that would only pass it on."""
    _runs(tmp_path, address or commands.gateway, tls_address)
    await commands.run("key", "list", "--data-dir", str(tmp_path))
    assert access.shown == [""]


async def test_a_key_is_not_sent_in_plain_text(tmp_path: Path) -> None:
    """Beyond this machine it takes TLS; nothing is sent before that is clear."""
    (tmp_path / "my.key").write_text(_KEY)
    mesh = Commands("mesh.example:8080")
    result = await mesh.run("key", "list", "--key", str(tmp_path / "my.key"))
    assert result.exit_code == 1
    assert result.stderr == (
        "error: The key would be sent to mesh.example:8080 in plain text. Call the gateway by"
        " TLS: --gateway https://mesh.example:8080, with the port that takes it.\n"
    )


class TestTls:
    """Gateways beyond this machine, and their certificates."""

    @pytest.fixture
    async def gateway(self, access: _Access, tmp_path: Path) -> AsyncIterator[str]:
        """A gateway that takes TLS, with a certificate of the mesh's own authority."""
        authority = Authority.open(tmp_path / "certificates", clock=SystemClock())
        files = authority.issue("gateway")
        pair = (files.key.read_bytes(), files.certificate.read_bytes())
        server = grpc.aio.server()
        add_AccessServiceServicer_to_server(access, server)
        port = server.add_secure_port("127.0.0.1:0", grpc.ssl_server_credentials([pair]))
        await server.start()
        yield f"127.0.0.1:{port}"
        await server.stop(None)

    async def test_its_authority_is_named(
        self, gateway: str, access: _Access, tmp_path: Path
    ) -> None:
        """With --ca the command knows whom it talks to, and shows its key."""
        (tmp_path / "my.key").write_text(_KEY)
        authority = tmp_path / "certificates" / "authority" / "certificate.pem"
        result = await Commands(f"https://{gateway}").run(
            "key", "list", "--ca", str(authority), "--key", str(tmp_path / "my.key")
        )
        assert (result.exit_code, result.stderr) == (0, "")
        assert access.shown == [f"Bearer {_KEY}"]

    async def test_a_stranger_is_shown_nothing(
        self, gateway: str, access: _Access, tmp_path: Path
    ) -> None:
        """A certificate by nobody who is trusted ends the call before it begins."""
        (tmp_path / "my.key").write_text(_KEY)
        result = await Commands(f"https://{gateway}").run(
            "key", "list", "--key", str(tmp_path / "my.key"), "--data-dir", str(tmp_path / "none")
        )
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: The certificate of the gateway at {gateway} is by nobody who is trusted here,"
            " or for another name. Name its authority with --ca FILE, and the gateway as its"
            " certificate does.\n"
        )
        assert access.shown == []

    async def test_the_owner_needs_no_options(
        self, gateway: str, access: _Access, tmp_path: Path, owned: AccessFiles
    ) -> None:
        """For the mesh of the data directory both authority and key are found."""
        _runs(tmp_path, "127.0.0.1:1", f"0.0.0.0:{gateway.rpartition(':')[2]}")
        result = await Commands(f"https://{gateway}").run(
            "key", "list", "--data-dir", str(tmp_path)
        )
        assert (result.exit_code, result.stderr) == (0, "")
        assert access.shown == [f"Bearer {owned.local_key.read_text().strip()}"]

    async def test_a_port_without_tls(self, commands: Commands, tmp_path: Path) -> None:
        """It is said to take none."""
        result = await Commands(f"https://{commands.gateway}").run(
            "key", "list", "--data-dir", str(tmp_path)
        )
        assert result.exit_code == 1
        assert result.stderr == (
            f"error: What listens at {commands.gateway} takes no TLS. Name the port that does, or"
            " on this machine leave https:// out.\n"
        )

    async def test_a_port_for_tls_that_is_called_without(
        self, gateway: str, tmp_path: Path
    ) -> None:
        """It hangs up, and the other way is named."""
        result = await Commands(gateway).run("key", "list", "--data-dir", str(tmp_path))
        assert result.exit_code == 1
        assert result.stderr.startswith(
            f"error: What listens at {gateway} hung up. If it takes TLS, call it with --gateway"
            f" https://{gateway};"
        )
