"""WatchAlerts at the wire."""

from collections.abc import AsyncGenerator
from contextlib import aclosing
from typing import Final, Protocol

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit import identity, names
from services.governor.alert_feed import AlertFeed

_ALL_TENANTS: Final = "tenants/-"


class Operators(Protocol):
    """Who may see what concerns all tenants."""

    def require_caller(self, to_do: str) -> None:
        """Forbidden unless the call that is being served is an operator's."""
        ...


class AlertService:
    """The RPC about alerts."""

    def __init__(self, feed: AlertFeed, operators: Operators) -> None:
        self._feed: Final = feed
        self._operators: Final = operators

    async def watch(self, request: pb.WatchAlertsRequest) -> AsyncGenerator[pb.WatchAlertsResponse]:
        """A tenant's alerts, or those of all for operators."""
        if request.parent == _ALL_TENANTS:
            self._operators.require_caller("watch the alerts of all tenants")
            tenant = None
        else:
            (tenant,) = names.TENANT.parse(request.parent, field="parent")
            identity.require_tenant(request.parent)
        async with aclosing(
            self._feed.alerts(
                tenant, after_sequence=request.after_sequence, past_only=request.past_only
            )
        ) as alerts:
            async for alert in alerts:
                yield alert
