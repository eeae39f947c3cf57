"""Every call between the services of a staging mesh crosses its proxy, by the policy."""

import json
from pathlib import Path
from typing import Any

import pytest

from agentmesh.coordinator.v1.task_pb2 import TaskState
from meshkit import identity
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tests.e2e.running_mesh import Client
from tier import policy_contracts
from tier.api import MeshOptions, RunningMesh, Tier, start, status


def _crossed(folder: Path) -> list[dict[str, Any]]:
    lines = (folder / "logs" / "proxy-access.log").read_text("utf-8").splitlines()
    return [json.loads(each) for each in lines]


async def _all_are_well(mesh: RunningMesh) -> bool:
    return all(each.healthy for each in await status(mesh.state))


@pytest.mark.parametrize("mtls", [True, False])
async def test_the_calls_for_a_task_cross_the_proxy(tmp_path: Path, mtls: bool) -> None:
    """Each is one that the policy names; with certificates, by that of its caller."""
    options = MeshOptions(
        tier=Tier.STAGING, data_dir=tmp_path, port=0, no_auth=True, no_mtls=not mtls
    )
    async with (
        await start(options, lambda _: None) as mesh,
        Channels(Everywhere(mesh.address), caller="user:test") as channels,
    ):
        with identity.use(Identity("default", "user:test")):
            client = Client(mesh, channels)
            task = await client.submit("What is 6 * 7?")

            async def has_succeeded() -> bool:
                state = (await client.get(task.name)).state
                return state == TaskState.TASK_STATE_SUCCEEDED

            await eventually(has_succeeded, timeout_seconds=60)
        await eventually(lambda: _all_are_well(mesh), timeout_seconds=60)
        processes = {each.name: each for each in await status(mesh.state)}
        how = "with mutual TLS" if mtls else "in plain text"
        assert processes["proxy"].detail == f"calls between services, {how}"
        plain = [each for each in mesh.state.notes if "plain text" in each]
        assert bool(plain) is not mtls
    seen = {(each["caller"], each["rpc"]) for each in _crossed(tmp_path)}
    edges = policy_contracts.shipped().edges
    assert seen <= {(f"service:{each.caller}", path) for each in edges for path in each.paths}
    assert {rpc.rpartition("/")[2] for _, rpc in seen} >= {
        *("ExplainBudget", "BatchGenerateStream", "ListModels"),
        *("ListTools", "BatchExecuteToolsStream"),
    }
    certificates = {(each["caller"], each["certificate"]) for each in _crossed(tmp_path)}
    for caller, certificate in certificates:
        name = caller.removeprefix("service:")
        assert certificate == (f"spiffe://agentmesh.local/{name}" if mtls else None)
    # A stream that an executor drops when it ends is cancelled. Who calls before the proxy has
    # found an instance well is told that there is none, and calls again.
    ends = ("OK", "Canceled")
    unlike = [each for each in _crossed(tmp_path) if each["grpc_status"] not in ends]
    assert [each for each in unlike if each["upstream_address"]] == []
