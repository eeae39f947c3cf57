"""The end of a staging mesh: what is in flight finishes, and nobody new is let in."""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path

import pytest
import yaml

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1.reasoning_service_pb2 import GenerateRequest
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceStub
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import DependencyUnavailable
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from services.reasoning.upstream_openai import OpenAIFormat, OpenAIServer, openai_server
from tier.api import Event, MeshOptions, Phase, RunningMesh, Tier, start
from tier.http_get import get

_MODEL = "gpt-5-mini"
_CALL_SECONDS = 600.0
_REQUEST = GenerateRequest(
    messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])],
    tier=tier_pb2.MODEL_TIER_FAST,
)


@pytest.fixture
async def provider() -> AsyncIterator[OpenAIServer]:
    """It keeps its answers to itself until the test lets it go on."""
    async with openai_server(OpenAIFormat(model=_MODEL, key="")) as server:
        server.http.go_on.clear()
        yield server


def _options(folder: Path, provider: OpenAIServer) -> MeshOptions:
    config = folder / "mesh.yaml"
    models = {_MODEL: {"provider": "openai", "address": provider.base_url}}
    reasoning = {"tiers": {"fast": [_MODEL]}, "models": models}
    config.write_text(yaml.safe_dump({"reasoning": reasoning}))
    return MeshOptions(
        tier=Tier.STAGING, data_dir=folder / "data", port=0, config=config, no_auth=True
    )


@asynccontextmanager
async def _started(
    folder: Path, provider: OpenAIServer, told: list[Event]
) -> AsyncGenerator[RunningMesh]:
    """A mesh that the test stops; a test that fails leaves nothing that keeps its process."""
    mesh = await start(_options(folder, provider), told.append)
    try:
        yield mesh
    except BaseException:
        await mesh.stop()
        raise


async def _is_unready(mesh: RunningMesh) -> bool:
    assert mesh.state.admin_address is not None
    try:
        status, _ = await get(mesh.state.admin_address, "/ready")
    except TimeoutError:
        return False
    return status == 503


async def test_calls_in_flight_finish_and_no_new_ones_begin(
    tmp_path: Path, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The gateway closes its door first, and ends before any service."""
    # However busy the machine is.
    monkeypatch.setattr("tier.mesh._DRAIN_SECONDS", _CALL_SECONDS)
    told: list[Event] = []
    async with (
        _started(tmp_path, provider, told) as mesh,
        Channels(Everywhere(mesh.address), caller="user:ada") as channels,
    ):
        host, _, port = mesh.address.rpartition(":")
        with identity.use(Identity("default", "user:ada")):
            stub = ReasoningServiceStub(channels.get("gateway"))
            call = asyncio.ensure_future(stub.Generate(_REQUEST, timeout=_CALL_SECONDS))
            await eventually(lambda: provider.http.requests)
            stopping = asyncio.create_task(mesh.stop(told.append))

            async def closed() -> bool:
                try:
                    _, writer = await asyncio.open_connection(host, int(port))
                except ConnectionRefusedError:
                    return True
                writer.close()
                return False

            await eventually(closed)
            await eventually(lambda: _is_unready(mesh))
            assert not call.done()
            provider.http.go_on.set()
            assert (await call).model == _MODEL
            await stopping
    ends = [each.part for each in told if each.phase is Phase.STOPPED]
    assert ends[0] == "gateway"
    assert {"governor", "reasoning", "coordinator", "executor-1"} < set(ends[1:])
    assert ends[-1] == "mesh"
    texts = [each.text for each in told if each.phase is Phase.STOPPING]
    assert texts == ["Stopping the mesh", "The gateway takes no new calls"]


async def test_what_does_not_finish_is_cut_off(
    tmp_path: Path, provider: OpenAIServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """The end waits for nobody for ever, and says who was cut off."""
    monkeypatch.setattr("tier.mesh._DRAIN_SECONDS", 0.2)
    told: list[Event] = []
    async with (
        _started(tmp_path, provider, told) as mesh,
        Channels(Everywhere(mesh.address), caller="user:ada") as channels,
    ):
        with identity.use(Identity("default", "user:ada")):
            stub = ReasoningServiceStub(channels.get("gateway"))
            call = asyncio.ensure_future(stub.Generate(_REQUEST, timeout=_CALL_SECONDS))
            await eventually(lambda: provider.http.requests)
            await mesh.stop(told.append)
            with pytest.raises(DependencyUnavailable):
                await call
    assert "1 calls did not finish within 0.2 s and are cut off" in [each.text for each in told]
