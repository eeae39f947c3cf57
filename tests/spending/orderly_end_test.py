"""A mesh that is stopped has settled what was spent, and given back what was leased."""

import asyncio
from pathlib import Path

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1.reasoning_service_pb2 import GenerateRequest
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceStub
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tier.api import Event, MeshOptions, Tier, start

# Enough for a lease.
_CALLS = 10
# Without what Envoys say of the same calls.
_LOGS = "logs/[!ap]*"
_REQUEST = GenerateRequest(
    messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])],
    tier=tier_pb2.MODEL_TIER_FAST,
)


def _ignore(event: Event) -> None:
    """Nobody reads how the mesh comes up."""


@pytest.mark.parametrize("tier", [Tier.PROTOTYPE, Tier.STAGING])
async def test_nothing_is_left_to_settle_when_a_mesh_ends(tmp_path: Path, tier: Tier) -> None:
    """However soon after the last call: the governor is there until the others have ended."""
    options = MeshOptions(tier=tier, data_dir=tmp_path, port=0, no_auth=True)
    async with (
        await start(options, _ignore) as mesh,
        Channels(Everywhere(mesh.address), caller="user:ada") as channels,
    ):
        reasoning = ReasoningServiceStub(channels.get("gateway"))
        with identity.use(Identity("default", "user:ada")):
            # At once: the fewer in a while, the less they are worth a lease.
            await asyncio.gather(*(reasoning.Generate(_REQUEST, timeout=60) for _ in range(_CALLS)))
            await eventually(lambda: _leases(tmp_path), 60)
            await reasoning.Generate(_REQUEST, timeout=60)
    assert _files(tmp_path, "**/reasoning/settlements/*") == []
    logs = "".join(_files(tmp_path, _LOGS))
    assert "settlements.left" not in logs
    assert "settlement.refused" not in logs
    # The one lease, and its return.
    assert _leases(tmp_path) == 1
    assert logs.count("CostGovernorService/Release") == 1


def _leases(folder: Path) -> int:
    """How many the governor has granted."""
    return "".join(_files(folder, _LOGS)).count("CostGovernorService/AcquireLease")


def _files(folder: Path, pattern: str) -> list[str]:
    return [path.read_text("utf-8") for path in folder.glob(pattern)]
