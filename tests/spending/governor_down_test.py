"""The governor is gone for a while: calls go on, or are refused, as each tenant wants it."""

import asyncio
import os
import signal
from datetime import UTC, datetime
from typing import Final

import pytest

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1.reasoning_service_pb2 import GenerateRequest, GenerateResponse
from agentmesh.reasoning.v1.reasoning_service_pb2_grpc import ReasoningServiceStub
from meshkit import identity
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.errors import DependencyUnavailable
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tasklog.policy import built_in
from tasklog.policy_store import PolicyStore
from tests.faults.fault_mesh import FaultMesh
from tests.faults.load import users
from tests.faults.verdict import after_the_fault
from tests.spending.charged import charged_is, cost_by_log

pytest_plugins = ["tests.faults.shared_mesh"]
pytestmark = pytest.mark.asyncio(loop_scope="module")

# As long as one likes: GOVERNOR_DOWN_SECONDS=30.
_AWAY_SECONDS: Final = float(os.environ.get("GOVERNOR_DOWN_SECONDS", "1"))
_SEED: Final = int(os.environ.get("FAULTS_SEED", "1"))
_TIMEOUT: Final = 10.0
# A tenant whose calls need a governor that answers, and one whose calls do not.
_CLOSED: Final = "closed"
_OPEN: Final = "open"


async def test_calls_go_on_without_the_governor_and_are_settled_later(mesh: FaultMesh) -> None:
    """Every task succeeds, the audit is clean, and what is charged is what the log says."""
    async with users(mesh.address, seed=_SEED) as load:
        await load.has_asked(20)
        await mesh.end("governor", signal.SIGKILL)
        gone = datetime.now(UTC)
        await asyncio.sleep(_AWAY_SECONDS)
        await load.has_asked(5)
        await load.settles()
        back = datetime.now(UTC)
        await mesh.start("governor")
        await load.has_asked(10)
    ended = await after_the_fault(mesh, load)
    await charged_is(mesh.address, cost_by_log(ended.values()))
    called = [
        event.time.ToDatetime(UTC)
        for each in ended.values()
        for event in each.events
        if event.HasField("model_called")
    ]
    # Calls were made meanwhile, else the test has shown nothing.
    assert sum(gone < each < back for each in called) > 5


async def test_a_tenant_that_wants_it_is_refused_while_the_governor_is_gone(
    mesh: FaultMesh,
) -> None:
    """With RetryInfo; another one's calls are made, say so, and are charged to the last cent."""
    async with Channels(Everywhere(mesh.address), caller="x") as found:
        reasoning = ReasoningServiceStub(found.get("gateway"))
        await _close(mesh)
        costs: dict[str, int] = {_CLOSED: 0, _OPEN: 0}

        async def answered(tenant: str) -> bool:
            # On a busy machine a governor may take longer than it is waited for.
            try:
                answer = await _generate(reasoning, tenant)
            except DependencyUnavailable as error:
                raise LookupError(error.message) from error
            costs[tenant] += answer.usage.cost_micros
            return not answer.degradations

        for tenant in costs:
            await eventually(lambda tenant=tenant: answered(tenant))
        await mesh.end("governor", signal.SIGKILL)

        async def unreachable() -> bool:
            # A process that has just died may take calls for a moment more.
            answer = await _generate(reasoning, _OPEN)
            costs[_OPEN] += answer.usage.cost_micros
            return bool(answer.degradations)

        await eventually(unreachable)
        with pytest.raises(DependencyUnavailable) as caught:
            await _generate(reasoning, _CLOSED)
        assert caught.value.message == (
            "The cost governor cannot be reached, and this tenant's calls need its consent."
        )
        assert caught.value.retry_after_seconds == 1.0
        await mesh.start("governor")
        await eventually(lambda: answered(_CLOSED))
        assert min(costs.values()) > 0
        await charged_is(mesh.address, costs)


async def _close(mesh: FaultMesh) -> None:
    """Puts the one tenant into a tier that fails closed, as an operator does."""
    policy = built_in()
    tier = policy.tenant_tiers.add()
    tier.CopyFrom(
        next(each for each in policy.tenant_tiers if each.id == policy.default_tenant_tier)
    )
    tier.id, tier.fail_closed = "strict", True
    policy.tenants[_CLOSED] = tier.id
    async with await Bus.connect(mesh.nats_url, name="test") as bus:
        await PolicyStore(bus).set(policy)


async def _generate(reasoning: ReasoningServiceStub, tenant: str) -> GenerateResponse:
    request = GenerateRequest(messages=[Message(role=ROLE_USER, parts=[Part(text="Hello")])])
    with identity.use(Identity(tenant, "user:ada")):
        return await reasoning.Generate(request, timeout=_TIMEOUT)
