"""The RPCs about budgets."""

from collections.abc import Callable
from typing import Final, Protocol

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity, names, page_token
from services.governor import budget_message, convert, convert_budget
from services.governor.account import Decision, Wish
from services.governor.budget import Budget, Place, parse_name
from services.governor.budgets import Budgets
from services.governor.standings import Standings
from services.governor.verdicts import Tiers

_ALL_TENANTS: Final = "tenants/-"
_PAGE: Final = 50


class BudgetStore(Protocol):
    """Where budgets are kept."""

    async def set(self, budget: Budget, *, etag: str, request_id: str) -> tuple[Budget, int]:
        """Puts a budget in force; as stored, and its place."""
        ...

    async def delete(self, place: Place, *, etag: str) -> int:
        """Removes a budget; the place of that."""
        ...


class BudgetNews(Protocol):
    """Who is told that budgets have changed."""

    async def note_budgets(self, sequence: int) -> None:
        """Lets nobody decide who does not know the budgets up to that place."""
        ...


class Operators(Protocol):
    """Who may see and set what concerns all tenants."""

    def include_caller(self) -> bool:
        """Whether the call that is being served is an operator's."""
        ...

    def require_caller(self, to_do: str) -> None:
        """Forbidden unless it is."""
        ...


class BudgetService:
    """Checks who asks, decodes, asks, encodes."""

    def __init__(
        self,
        budgets: Budgets,
        store: BudgetStore,
        news: BudgetNews,
        standings: Standings,
        operators: Operators,
        tiers: Callable[[str], frozenset[int]],
        notice: Callable[[Wish, Decision], None] = lambda wish, decision: None,
    ) -> None:
        """`tiers`: the model tiers that a tenant may use, all if empty.

        `notice`: told of every decision that is explained; must be quick.
        """
        self._budgets: Final = budgets
        self._store: Final = store
        self._news: Final = news
        self._standings: Final = standings
        self._operators: Final = operators
        self._tiers: Final = tiers
        self._notice: Final = notice

    async def set(self, request: pb.SetBudgetRequest) -> pb.SetBudgetResponse:
        """Puts a budget in force."""
        budget = budget_message.wanted_budget(request.budget)
        self._require(budget.scope.tenant, "set a budget over all tenants")
        stored, sequence = await self._store.set(
            budget, etag=request.budget.etag, request_id=convert.request_id(request.request_id)
        )
        await self._news.note_budgets(sequence)
        return pb.SetBudgetResponse(budget=budget_message.message(stored))

    async def get(self, request: pb.GetBudgetRequest) -> pb.GetBudgetResponse:
        """A budget and where it stands."""
        scope, window = parse_name(request.name, field="name")
        self._require(scope.tenant, "see a budget over all tenants")
        standing = await self._standings.at((scope, window))
        return pb.GetBudgetResponse(status=convert_budget.status(standing))

    async def delete(self, request: pb.DeleteBudgetRequest) -> pb.DeleteBudgetResponse:
        """Takes a budget out of force."""
        scope, window = parse_name(request.name, field="name")
        self._require(scope.tenant, "delete a budget over all tenants")
        await self._news.note_budgets(await self._store.delete((scope, window), etag=request.etag))
        return pb.DeleteBudgetResponse()

    async def list(self, request: pb.ListBudgetsRequest) -> pb.ListBudgetsResponse:
        """A tenant's budgets, or all that somebody set."""
        tenant = ""
        if request.parent == _ALL_TENANTS:
            self._operators.require_caller("see the budgets of all tenants")
        else:
            tenant = convert.tenant(request.parent)
        size = page_token.page_size(request.page_size, default=_PAGE)
        query = page_token.query_of(request)
        after = page_token.decode(query, request.page_token) or ""

        def page_and_next() -> list[Budget]:
            found = self._budgets.of_tenant(tenant) if tenant else self._budgets.stored()
            rest = sorted((each for each in found if each.name > after), key=lambda each: each.name)
            return rest[: size + 1]

        standings = await self._standings.of(page_and_next)
        last = standings[size - 1].budget.name if len(standings) > size else ""
        more = page_token.encode(query, last) if last else ""
        return convert_budget.statuses(standings[:size], more)

    async def explain(self, request: pb.ExplainBudgetRequest) -> pb.ExplainBudgetResponse:
        """Which budgets a call falls under, how each stands, and which one decides."""
        tiers = Tiers.of(
            convert.tier("tier", request.tier), self._tiers(convert.tenant(request.parent))
        )
        found = await self._standings.explain(convert_budget.question(request, tiers))
        # Tasks that are refused before they are accepted never come to a model call.
        self._notice(found.wish, found.decision)
        return convert_budget.explanation(
            found,
            tiers,
            hides_global=not self._operators.include_caller(),
            has_sessions=self._budgets.has_sessions(found.wish.tenant),
        )

    def _require(self, tenant: str, to_do: str) -> None:
        """Forbidden unless the caller acts for the tenant; an operator, where that is empty."""
        if tenant:
            identity.require_tenant(names.TENANT.format(tenant=tenant))
        else:
            self._operators.require_caller(to_do)
