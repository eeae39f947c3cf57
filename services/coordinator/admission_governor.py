"""Admission by the cost governor: a tenant whose budget is spent submits nothing."""

import asyncio
import contextvars
from collections import OrderedDict
from typing import Final

from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.governor.v1 import cost_governor_service_pb2, cost_governor_service_pb2_grpc
from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import BudgetExhausted, DeadlineExceeded, DependencyUnavailable
from meshkit.mesh_error import QuotaViolation

_TIMEOUT_SECONDS: Final = 0.5
# Every model call is admitted by itself; this only keeps tasks from queueing
# that could not make a single one, so a second-old answer will do.
_KEPT_SECONDS: Final = 1.0
_KEPT_TENANTS: Final = 10_000


class GovernorAdmission:
    """A Gate that remembers each tenant's answer for a second."""

    def __init__(
        self, governor: cost_governor_service_pb2_grpc.CostGovernorServiceStub, clock: Clock
    ) -> None:
        self._governor = governor
        self._clock = clock
        self._kept: OrderedDict[str, tuple[float, BudgetExhausted | None]] = OrderedDict()
        self._asking: dict[str, asyncio.Task[BudgetExhausted | None]] = {}

    async def check(self, task: Task) -> None:
        """Returns if the task's tenant may spend; BudgetExhausted otherwise.

        A governor that cannot be reached stops nobody here: model calls have
        their own admission.
        """
        kept = self._kept.get(task.tenant)
        if kept is None or kept[0] < self._clock.monotonic_seconds():
            refusal = await self._refreshed(task.tenant)
        else:
            refusal = kept[1]
        if refusal is not None:
            raise refusal

    async def _refreshed(self, tenant: str) -> BudgetExhausted | None:
        """Asks once for all that come while the question is open."""
        asking = self._asking.get(tenant)
        if asking is None:
            # In a context of its own: a first caller with no time left would else
            # decide for all who ask with it.
            asking = self._asking[tenant] = asyncio.create_task(
                self._refresh(tenant), context=_without_deadline()
            )
            asking.add_done_callback(lambda _: self._asking.pop(tenant))
        # Who gives up does not take the answer from the others.
        return await asyncio.shield(asking)

    async def _refresh(self, tenant: str) -> BudgetExhausted | None:
        refusal = await self._ask(tenant)
        self._kept[tenant] = (self._clock.monotonic_seconds() + _KEPT_SECONDS, refusal)
        self._kept.move_to_end(tenant)
        if len(self._kept) > _KEPT_TENANTS:
            self._kept.popitem(last=False)
        return refusal

    async def _ask(self, tenant: str) -> BudgetExhausted | None:
        try:
            spend = await self._governor.GetSpend(
                cost_governor_service_pb2.GetSpendRequest(parent=f"tenants/{tenant}"),
                timeout=_TIMEOUT_SECONDS,
            )
        except (DependencyUnavailable, DeadlineExceeded):
            return None
        for window, name in ((spend.day, "day"), (spend.month, "month")):
            if window.limit_micros and window.spent_micros >= window.limit_micros:
                budget = f"tenants/{tenant}/budgets/tenant-{name}"
                resets_at = window.resets_at.ToJsonString()
                return BudgetExhausted(
                    f"The budget {budget} of {window.limit_micros / 1e6:.2f} USD is spent."
                    f" It starts again at {resets_at}.",
                    metadata={"budget": budget, "resets_at": resets_at},
                    quota=[QuotaViolation(budget, "spent")],
                )
        return None


def _without_deadline() -> contextvars.Context:
    """The present context, with nobody's time limit."""
    context = contextvars.copy_context()
    context.run(deadline.adopt, None)
    return context
