"""The calls of `agentmesh budget`, and what they print."""

import uuid
from collections.abc import Callable
from typing import Final

from agentmesh.coordinator.v1.coordinator_service_pb2 import GetTaskRequest
from agentmesh.governor.v1.budget_pb2 import Budget, BudgetStatus
from agentmesh.governor.v1.cost_governor_service_pb2 import (
    DeleteBudgetRequest,
    ExplainBudgetRequest,
    ExplainBudgetResponse,
    GetBudgetRequest,
    ListBudgetsRequest,
    SetBudgetRequest,
)
from cli.budget_place import Place
from cli.budget_view import show_budget, show_budgets, show_explanation
from cli.gateway import CALL_SECONDS, GOVERNOR_SECONDS, Gateway, call
from cli.invocation import Invocation
from cli.mesh_access import address_of
from cli.pages import collect
from cli.plain import to_plain
from cli.problem import Problem
from meshkit.errors import BudgetNotFound, Conflict

# How often a change is made again on top of somebody else's.
_TURNS: Final = 5


def set_budget(
    invocation: Invocation,
    place: Place,
    edit: Callable[[Budget], None],
    *,
    etag: str | None,
    request_id: str,
) -> None:
    """Applies `edit` to a budget, or to a new one, and prints it.

    Again on top of somebody else's change, but not where the caller gave an etag.
    Raises Problem for a new budget without a limit.
    """
    # A call that breaks is repeated under the same id, and writes once.
    request_id = request_id or f"cli-{uuid.uuid4()}"

    async def run(gateway: Gateway) -> BudgetStatus:
        for turn in range(_TURNS):
            changed = await _found(gateway, place)
            edit(changed)
            if not changed.limit_micros:
                raise Problem(
                    f"There is no budget {place.name} yet: a new one needs --limit.", exit_code=2
                )
            # What nobody has set has no etag: `0` is that nobody has set it meanwhile.
            changed.etag = (changed.etag or "0") if etag is None else etag
            try:
                await gateway.governor.SetBudget(
                    SetBudgetRequest(budget=changed, request_id=f"{request_id}-{turn}"),
                    timeout=GOVERNOR_SECONDS,
                )
            except Conflict:
                if etag is not None or turn + 1 == _TURNS:
                    raise
            else:
                return await _get(gateway, place.name)
        raise AssertionError("the last turn returns or raises")

    _print(invocation, call(address_of(invocation), invocation.tenant, run))


def get(invocation: Invocation, name: str) -> None:
    """Prints a budget and where it stands."""

    async def run(gateway: Gateway) -> BudgetStatus:
        return await _get(gateway, name)

    _print(invocation, call(address_of(invocation), invocation.tenant, run))


def list_budgets(invocation: Invocation, parent: str, limit: int) -> None:
    """Prints budgets, by name."""

    async def run(gateway: Gateway) -> list[BudgetStatus]:
        return await collect(
            gateway.governor.ListBudgets,
            ListBudgetsRequest(parent=parent),
            lambda page: page.statuses,
            # One more tells whether there are more.
            limit=limit + 1,
            page_seconds=GOVERNOR_SECONDS,
        )

    found = call(address_of(invocation), invocation.tenant, run)
    statuses = found[:limit]
    if invocation.terminal.as_json:
        invocation.terminal.document({"statuses": [to_plain(each) for each in statuses]})
    else:
        show_budgets(invocation.terminal, statuses, invocation.parent)
        if len(found) > limit:
            invocation.terminal.warn(f"These are the first {limit:,}; --limit shows more.")


def explain(invocation: Invocation, request: ExplainBudgetRequest) -> None:
    """Prints the budgets that a call would fall under, and what would be decided.

    Raises TaskNotFound, Forbidden or InvalidField where the task is none of the tenant's.
    """

    async def run(gateway: Gateway) -> ExplainBudgetResponse:
        if request.task:
            # The governor takes any task's name: it hears of a task with its first call.
            await gateway.coordinator.GetTask(
                GetTaskRequest(name=request.task), timeout=CALL_SECONDS
            )
        return await gateway.governor.ExplainBudget(request, timeout=GOVERNOR_SECONDS)

    answer = call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document(to_plain(answer))
    else:
        show_explanation(invocation.terminal, answer, invocation.parent)


def delete(invocation: Invocation, name: str, etag: str) -> None:
    """Removes a budget."""

    async def run(gateway: Gateway) -> None:
        await gateway.governor.DeleteBudget(
            DeleteBudgetRequest(name=name, etag=etag), timeout=GOVERNOR_SECONDS
        )

    call(address_of(invocation), invocation.tenant, run)
    if invocation.terminal.as_json:
        invocation.terminal.document({"deleted": name})
    else:
        invocation.terminal.say(f"{name} is deleted.")


async def _found(gateway: Gateway, place: Place) -> Budget:
    """The budget in that place as it is, or a new one without a limit."""
    try:
        return (await _get(gateway, place.name)).budget
    except BudgetNotFound:
        return Budget(
            name=place.name,
            scope=place.scope,
            subject=place.subject,
            window=place.window,
        )


async def _get(gateway: Gateway, name: str) -> BudgetStatus:
    answer = await gateway.governor.GetBudget(GetBudgetRequest(name=name), timeout=GOVERNOR_SECONDS)
    return answer.status


def _print(invocation: Invocation, status: BudgetStatus) -> None:
    if invocation.terminal.as_json:
        invocation.terminal.document({"status": to_plain(status)})
    else:
        show_budget(invocation.terminal, status)
