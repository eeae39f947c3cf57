"""Admission by the cost governor: whose budgets are spent submits nothing."""

import asyncio
import contextvars
from collections import OrderedDict
from collections.abc import Iterable
from dataclasses import dataclass
from typing import Final, NamedTuple

from agentmesh.coordinator.v1.task_pb2 import Task
from agentmesh.governor.v1 import budget_pb2, cost_governor_service_pb2_grpc
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import deadline
from meshkit.clock import Clock
from meshkit.errors import BudgetExhausted, DeadlineExceeded, DependencyUnavailable
from meshkit.mesh_error import QuotaViolation

_TIMEOUT_SECONDS: Final = 0.5
# Every model call is admitted by itself; this only keeps tasks from queueing
# that could not make a single one, so a second-old answer will do.
_KEPT_SECONDS: Final = 1.0
_MOST_KEPT: Final = 10_000
_WHOLE_PERCENT: Final = 100
_MICROS: Final = 1_000_000


class _Kind(NamedTuple):
    """What a task's budgets go by."""

    tenant: str
    task_type: str
    agent: str
    # Empty, unless the tenant's sessions have budgets of their own.
    session: str


@dataclass(frozen=True, slots=True)
class _Answer:
    refusal: BudgetExhausted | None = None
    # The answer may be another one for a session.
    has_session_budgets: bool = False


class GovernorAdmission:
    """A Gate that remembers the answer for each kind of task for a second."""

    def __init__(
        self, governor: cost_governor_service_pb2_grpc.CostGovernorServiceStub, clock: Clock
    ) -> None:
        self._governor = governor
        self._clock = clock
        self._kept: OrderedDict[_Kind, tuple[float, _Answer]] = OrderedDict()
        self._asking: dict[_Kind, asyncio.Task[_Answer]] = {}

    async def check(self, task: Task) -> None:
        """Returns if what a task falls under is not spent; BudgetExhausted otherwise.

        These are the budgets of all tenants, and of its tenant, task type, agent and
        session. A governor that cannot be reached stops nobody here: model calls
        have their own admission.
        """
        agent = _agent_id(task.agent)
        kind = _Kind(task.tenant, task.task_type or agent, agent, "")
        answer = await self._answer(kind)
        # Sessions are many, and seldom have a budget.
        if answer.refusal is None and answer.has_session_budgets and task.session:
            answer = await self._answer(kind._replace(session=task.session))
        if answer.refusal is not None:
            raise answer.refusal

    async def _answer(self, kind: _Kind) -> _Answer:
        kept = self._kept.get(kind)
        if kept is None or kept[0] < self._clock.monotonic_seconds():
            return await self._refreshed(kind)
        return kept[1]

    async def _refreshed(self, kind: _Kind) -> _Answer:
        """Asks once for all that come while the question is open."""
        asking = self._asking.get(kind)
        if asking is None:
            # In a context of its own: a first caller with no time left would else
            # decide for all who ask with it.
            asking = self._asking[kind] = asyncio.create_task(
                self._refresh(kind), context=_without_deadline()
            )
            asking.add_done_callback(lambda _: self._asking.pop(kind))
        # Who gives up does not take the answer from the others.
        return await asyncio.shield(asking)

    async def _refresh(self, kind: _Kind) -> _Answer:
        answer = await self._ask(kind)
        self._kept[kind] = (self._clock.monotonic_seconds() + _KEPT_SECONDS, answer)
        self._kept.move_to_end(kind)
        if len(self._kept) > _MOST_KEPT:
            self._kept.popitem(last=False)
        return answer

    async def _ask(self, kind: _Kind) -> _Answer:
        try:
            found = await self._governor.ExplainBudget(
                pb.ExplainBudgetRequest(
                    parent=f"tenants/{kind.tenant}",
                    task_type=kind.task_type,
                    agent=kind.agent,
                    session=kind.session,
                ),
                timeout=_TIMEOUT_SECONDS,
            )
        except (DependencyUnavailable, DeadlineExceeded):
            return _Answer()
        return _Answer(_refusal(found), found.has_session_budgets)


def _refusal(found: pb.ExplainBudgetResponse) -> BudgetExhausted | None:
    """What is reserved may be free again before the task asks for it: what is spent counts."""
    spent = [each for each in found.statuses if each.spent_micros >= _shutoff_micros(each.budget)]
    if spent:
        status = _last_to_start_again(spent)
        budget = status.budget.name
        metadata = {"budget": budget}
        again = "It does not start again."
        if status.HasField("resets_at"):
            metadata["resets_at"] = status.resets_at.ToJsonString()
            again = f"It starts again at {metadata['resets_at']}."
        return BudgetExhausted(
            f"The budget {budget} of {_usd(status.budget.limit_micros)} is spent. {again}",
            metadata=metadata,
            quota=[QuotaViolation(budget, _figures(status))],
        )
    decides = found.deciding_budget
    # What all tenants spend together is not told to each.
    if found.decision == budget_pb2.DECISION_DENY and all(
        each.budget.name != decides for each in found.statuses
    ):
        return BudgetExhausted(
            found.explanation,
            metadata={"budget": decides},
            quota=[QuotaViolation(decides, "spent")],
        )
    return None


def _figures(status: budget_pb2.BudgetStatus) -> str:
    """How far it is spent, and from where on it refuses."""
    budget, shutoff = status.budget, _shutoff_micros(status.budget)
    earlier = f"; it refuses from {_usd(shutoff)} on" if shutoff < budget.limit_micros else ""
    return f"{_usd(status.spent_micros)} of {_usd(budget.limit_micros)} are spent{earlier}"


def _usd(micros: int) -> str:
    """An amount, exact: two decimals, and more only where there are any."""
    whole, rest = divmod(micros, _MICROS)
    decimals = f"{rest:06d}".rstrip("0").ljust(2, "0")
    return f"{whole:,}.{decimals} USD"


def _shutoff_micros(budget: budget_pb2.Budget) -> int:
    percent = budget.thresholds.shutoff_percent or _WHOLE_PERCENT
    return budget.limit_micros * percent // _WHOLE_PERCENT


def _last_to_start_again(
    statuses: Iterable[budget_pb2.BudgetStatus],
) -> budget_pb2.BudgetStatus:
    """Where several are spent, it is in vain to wait for another."""
    return max(
        statuses,
        key=lambda each: (not each.HasField("resets_at"), each.resets_at.ToNanoseconds()),
    )


def _agent_id(name: str) -> str:
    """`assistant` of `tenants/acme/agents/assistant@1`."""
    return name.rpartition("/")[2].partition("@")[0]


def _without_deadline() -> contextvars.Context:
    """The present context, with nobody's time limit."""
    context = contextvars.copy_context()
    context.run(deadline.adopt, None)
    return context
