"""Staging as it is started without a word, and keys to come in with."""

import asyncio
import http.client
import ssl
from collections.abc import AsyncGenerator, Mapping
from contextlib import asynccontextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any, Final

import grpc
from google.protobuf import json_format
from google.protobuf.message import Message

from meshkit.identity import Role
from meshtest.eventually import eventually
from tests.mesh.rpc_call import Answer, Metadata, Rpc, every_rpc
from tier import api
from tier.access_bootstrap import AccessFiles
from tier.access_tokens import SigningKey

# By the method's name: no two of the mesh's own have the same.
RPCS: Final = {each.method.name: each for each in every_rpc()}
# What is said where coordinators are not sure that they know of all revocations.
_UNCHECKED: Final = "API keys cannot be checked now"
_CHECKED_WITHIN_SECONDS: Final = 60.0


class GuardedMesh:
    """Staging, at its gateway's port with TLS."""

    def __init__(self, mesh: api.RunningMesh, folder: Path, channel: grpc.aio.Channel) -> None:
        self.state: Final = mesh.state
        self.folder: Final = folder
        self._channel = channel
        self._address = str(mesh.state.tls_address)
        self._trusted = authority(folder)
        self._admin = key_metadata(AccessFiles.of(folder).local_key.read_text("ascii").strip())
        self.signing: Final = SigningKey.read(folder / "access/signing.pem")
        self._keys: dict[tuple[str, Role, tuple[str, ...]], Metadata] = {}

    async def call(
        self, rpc: Rpc, metadata: Metadata, request: Message | None = None, *, most: int = 50
    ) -> Answer:
        """What comes of one call, by default with an empty request.

        It is made again where the gateway could not check the key, as on a machine that is busy
        with other things: nobody has seen such a call.
        """
        given = rpc.request() if request is None else request

        async def checked() -> Answer | None:
            answer = await rpc.call(self._channel, given, metadata, most=most)
            return None if answer.message.startswith(_UNCHECKED) else answer

        answer = await eventually(checked, _CHECKED_WITHIN_SECONDS)
        assert answer is not None
        return answer

    async def admin(self, rpc: str, request: Mapping[str, Any]) -> Any:
        """The answer to the call of the machine's owner."""
        answer = await self.call(RPCS[rpc], self._admin, RPCS[rpc].request(request))
        assert answer.code == "OK", answer
        return json_format.MessageToDict(answer.answers[0], preserving_proto_field_name=True)

    async def key(
        self, role: Role, *scopes: str, tenant: str = "acme", life: timedelta | None = None
    ) -> tuple[str, Metadata]:
        """A new key's name, and what its owner sends."""
        wanted: dict[str, Any] = {"role": f"ROLE_{role.name}", "scopes": list(scopes)}
        if life is not None:
            wanted["expire_time"] = (datetime.now(UTC) + life).isoformat()
        parent = f"tenants/{tenant}"
        made = await self.admin("CreateApiKey", {"parent": parent, "api_key": wanted})
        return made["api_key"]["name"], key_metadata(made["text"])

    async def usual(self, role: Role, *scopes: str, tenant: str = "acme") -> Metadata:
        """What the owner of such a key sends, which is made once."""
        if (tenant, role, scopes) not in self._keys:
            _, made = await self.key(role, *scopes, tenant=tenant)
            self._keys[tenant, role, scopes] = made
        return self._keys[tenant, role, scopes]

    async def http(self, verb: str, path: str, metadata: Metadata) -> int:
        """The status of a call in JSON, which is made again as `call` does it."""

        def exchange() -> int | None:
            context = ssl.create_default_context(cadata=self._trusted)
            connection = http.client.HTTPSConnection(self._address, timeout=60, context=context)
            try:
                body = None if verb in ("GET", "DELETE") else b"{}"
                headers = {"content-type": "application/json", **dict(metadata)}
                connection.request(verb, path, body, headers)
                answer = connection.getresponse()
                unchecked = answer.status == 503 and _UNCHECKED.encode() in answer.read()
                return None if unchecked else answer.status
            finally:
                connection.close()

        status = await eventually(lambda: asyncio.to_thread(exchange), _CHECKED_WITHIN_SECONDS)
        assert status is not None
        return status


def key_metadata(text: str) -> Metadata:
    """How a key is sent."""
    return (("x-api-key", text),)


def authority(folder: Path) -> str:
    """By what the gateway of the mesh in `folder` is known, as PEM."""
    return (folder / "certificates/authority/certificate.pem").read_text("ascii")


@asynccontextmanager
async def guarded_mesh(folder: Path, config: Path) -> AsyncGenerator[GuardedMesh]:
    """A mesh with its state in `folder`."""
    options = api.MeshOptions(tier=api.Tier.STAGING, data_dir=folder, port=0, config=config)
    async with await api.start(options, lambda _: None) as running:
        trusted = grpc.ssl_channel_credentials(authority(folder).encode())
        assert running.state.tls_address is not None
        async with grpc.aio.secure_channel(running.state.tls_address, trusted) as channel:
            yield GuardedMesh(running, folder, channel)
