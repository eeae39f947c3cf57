"""The budgets and model tiers that a tenant's tier gives, where nobody has set another."""

from collections.abc import Mapping, Sequence
from typing import Final, NamedTuple

from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.window import WindowKind
from tasklog.policy_store import PolicyStore


class Limits(NamedTuple):
    """What a tenant may spend, in micro-USD."""

    day_micros: int
    month_micros: int


class TierBudgets:
    """What the queue policy says of a tenant, and the settings where it says nothing."""

    def __init__(
        self,
        policies: PolicyStore,
        *,
        limits: Limits,
        tenant_limits: Mapping[str, Limits],
        thresholds: Thresholds,
    ) -> None:
        """`limits` holds for tenants that have none in their tier nor in `tenant_limits`."""
        self._policies: Final = policies
        self._limits: Final = limits
        self._tenant_limits: Final = tenant_limits
        self._thresholds: Final = thresholds

    def budgets(self, tenant: str) -> Sequence[Budget]:
        """A day and a month."""
        tier = self._policies.current.tenant(tenant)
        otherwise = self._tenant_limits.get(tenant, self._limits)
        scope = Scope(ScopeKind.TENANT, tenant)
        return [
            Budget(scope, window, limit, thresholds=self._thresholds)
            for window, limit in (
                (WindowKind.DAY, tier.day_limit_micros or otherwise.day_micros),
                (WindowKind.MONTH, tier.month_limit_micros or otherwise.month_micros),
            )
        ]

    def model_tiers(self, tenant: str) -> frozenset[int]:
        """The model tiers that it may use; all if empty."""
        return frozenset(self._policies.current.tenant(tenant).allowed_model_tiers)
