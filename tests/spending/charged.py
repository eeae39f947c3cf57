"""What the log says that tasks cost, and what the governor has charged for it."""

from collections.abc import Iterable, Mapping
from typing import Final

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from meshkit import identity, names
from meshkit.client import Channels
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tests.faults.verdict import Ended

_CALL_SECONDS: Final = 30.0
# By then what is settled later is settled, after any time in which it could not be.
_SETTLED_WITHIN_SECONDS: Final = 60.0


def cost_by_log(ended: Iterable[Ended]) -> dict[str, int]:
    """What these tasks cost, by tenant, in micro-USD."""
    costs: dict[str, int] = {}
    for each in ended:
        tenant, _ = names.TASK.parse(each.task.name, field="name")
        costs[tenant] = costs.get(tenant, 0) + each.task.usage.cost_micros
    return costs


async def charged_is(address: str, expected: Mapping[str, int]) -> None:
    """Fails unless each tenant is soon charged exactly this, in micro-USD, in its month.

    `address` is the gateway's.
    """
    async with Channels(Everywhere(address), caller="user:test") as channels:
        governor = CostGovernorServiceStub(channels.get("gateway"))

        async def equal() -> bool:
            charged = {each: await _spent(governor, each) for each in expected}
            assert charged == expected
            return True

        await eventually(equal, _SETTLED_WITHIN_SECONDS)


async def _spent(governor: CostGovernorServiceStub, tenant: str) -> int:
    with identity.use(Identity(tenant, "user:test")):
        answer = await governor.GetSpend(
            pb.GetSpendRequest(parent=f"tenants/{tenant}"), timeout=_CALL_SECONDS
        )
    return answer.month.spent_micros
