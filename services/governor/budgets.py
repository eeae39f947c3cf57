"""All budgets in memory: those that somebody set, and those that a tenant's tier gives."""

from collections import OrderedDict
from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Final

from services.governor.budget import Budget, Place, Scope, ScopeKind
from services.governor.window import WindowKind

# Answers that are kept, by who calls for what.
_MOST_KEPT: Final = 10_000

# The budgets of a tenant that nobody has set.
Defaults = Callable[[str], Sequence[Budget]]


class Budgets:
    """What is in force. Safe to share within one event loop; asking is cheap."""

    def __init__(self, defaults: Defaults) -> None:
        self._defaults: Final = defaults
        self._set: dict[str, dict[Place, Budget]] = {}
        self._written: dict[Place, int] = {}
        self._kept: OrderedDict[tuple[str, str, str, str], Sequence[Budget]] = OrderedDict()
        self._listeners: list[Callable[[], None]] = []

    def of(
        self, tenant: str, task_type: str = "", agent: str = "", session: str = ""
    ) -> Sequence[Budget]:
        """The budgets under which such a call falls, the widest scope first."""
        asked = tenant, task_type, agent, session
        found = self._kept.get(asked)
        if found is None:
            found = self._kept[asked] = self._find(*asked)
            if len(self._kept) > _MOST_KEPT:
                self._kept.popitem(last=False)
        return found

    def stored(self, tenant: str | None = None) -> Sequence[Budget]:
        """Those that somebody set: of one tenant (`""` for the global ones), or of all."""
        if tenant is not None:
            return list(self._set.get(tenant, {}).values())
        return [budget for of_tenant in self._set.values() for budget in of_tenant.values()]

    def of_tenant(self, tenant: str) -> Sequence[Budget]:
        """All of one tenant: those that somebody set, and those that its tier gives."""
        found = {_place(each): each for each in self._defaults(tenant)}
        return list((found | self._set.get(tenant, {})).values())

    def get(self, place: Place) -> Budget | None:
        """The budget in that place, set or given by the tier; None if there is none."""
        scope, _ = place
        budget = self._set.get(scope.tenant, {}).get(place)
        if budget is None and scope.kind is ScopeKind.TENANT:
            return next(
                (each for each in self._defaults(scope.tenant) if _place(each) == place), None
            )
        return budget

    def has_sessions(self, tenant: str) -> bool:
        """Whether any session of the tenant has a budget."""
        of_tenant = self._set.get(tenant, {})
        return any(scope.kind is ScopeKind.SESSION for scope, _ in of_tenant)

    def on_change(self, listener: Callable[[], None]) -> None:
        """Has `listener` called whenever a budget has changed."""
        self._listeners.append(listener)

    def written(self, place: Place) -> int:
        """The place in the stream of the newest word on the budget, also that it is gone."""
        return self._written.get(place, 0)

    def replace_all(self, budgets: Iterable[Budget], written: Mapping[Place, int] = {}) -> None:
        """Forgets what was set, for these. `written`: as above, also of those that are gone."""
        self._set, self._written = {}, dict(written)
        for each in budgets:
            self._set.setdefault(each.scope.tenant, {})[_place(each)] = each
        self.changed()

    def put(self, budget: Budget, written: int = 0) -> None:
        """Puts a budget in force, in place of the one of its name; `written`: its place."""
        self._set.setdefault(budget.scope.tenant, {})[_place(budget)] = budget
        self._written[_place(budget)] = written
        self.changed()

    def remove(self, place: Place, written: int = 0) -> None:
        """Takes a budget out of force, if it is there; `written`: the place of that."""
        of_tenant = self._set.get(place[0].tenant, {})
        if of_tenant.pop(place, None) is not None and not of_tenant:
            del self._set[place[0].tenant]
        self._written[place] = written
        self.changed()

    def changed(self) -> None:
        """Forgets answers that were kept; for defaults that have changed."""
        self._kept.clear()
        for listener in self._listeners:
            listener()

    def _find(self, tenant: str, task_type: str, agent: str, session: str) -> Sequence[Budget]:
        scopes = [Scope(ScopeKind.GLOBAL), Scope(ScopeKind.TENANT, tenant)]
        for kind, subject in (
            (ScopeKind.TASK_TYPE, task_type),
            (ScopeKind.AGENT, agent),
            (ScopeKind.SESSION, session),
        ):
            if subject:
                scopes.append(Scope(kind, tenant, subject))
        by_tier = {_place(each): each for each in self._defaults(tenant)}
        found: list[Budget] = []
        for scope in scopes:
            of_tenant = self._set.get(scope.tenant, {})
            for window in WindowKind:
                place = scope, window
                budget = of_tenant.get(place) or by_tier.get(place)
                if budget is not None:
                    found.append(budget)
        return found


def _place(budget: Budget) -> Place:
    return budget.scope, budget.window
