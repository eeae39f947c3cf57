"""Test-only: calls of one tenant, in few words."""

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, Final

from meshkit.errors import MeshError
from services.governor.account import Usage
from services.governor.budget import Budget, Scope, ScopeKind, Thresholds
from services.governor.calls import Lease, MadeCall, PlannedCall, Settlement, Verdict, WantedLease
from services.governor.governor_parts import Defaults, GovernorParts
from services.governor.window import WindowKind

START: Final = datetime(2026, 3, 31, 23, 50, tzinfo=UTC)
EXPIRES: Final = START + timedelta(seconds=600)
FAST, BALANCED, POWERFUL = 1, 2, 3
DEFAULTS: Final = Defaults(1000, 100_000)
DAY: Final = "tenants/acme/budgets/tenant-day"


@dataclass(frozen=True, slots=True)
class Used:
    """What calls of a kind used before."""

    output_tokens: int


def lines(limit: int = 1000, **thresholds: int) -> Budget:
    """A budget of the tenant's day, with these lines in percent."""
    scope = Scope(ScopeKind.TENANT, "acme")
    return Budget(scope, WindowKind.DAY, limit, thresholds=Thresholds(**thresholds))


async def admit(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Verdict:
    """The verdict on one call."""
    fields: dict[str, Any] = {"max_output_tokens": 0, "task_type": "chat"}
    call = PlannedCall("acme", key, "unit", tokens, **(fields | more))
    (verdict,) = await parts.admission.admit([call])
    assert not isinstance(verdict, MeshError), verdict
    return verdict


async def settle(parts: GovernorParts, key: str, tokens: int, **more: Any) -> Settlement:
    """The settlement of one call; raises what it fails with."""
    fields: dict[str, Any] = {"task_type": "chat"}
    (outcome,) = await parts.settling.settle(
        [MadeCall("acme", key, "unit", Usage(input_tokens=tokens), **(fields | more))]
    )
    if isinstance(outcome, MeshError):
        raise outcome
    return outcome


async def today(parts: GovernorParts) -> tuple[int, int]:
    """What is spent and reserved in the tenant's day."""
    day, _ = await parts.standings.spend("acme")
    return day.standing.spent_micros, day.standing.reserved_micros


async def take_lease(parts: GovernorParts, lease: str, micros: int) -> Lease:
    """A lease for the tenant's agent."""
    return await parts.leasing.lease(WantedLease("acme", lease, micros, "chat", "helper"))
