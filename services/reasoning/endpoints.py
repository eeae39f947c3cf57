"""The endpoints of models: each with its breaker and its limits."""

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from pybreaker import STATE_HALF_OPEN, STATE_OPEN

from meshkit.errors import MeshError
from services.reasoning.breaker import Breaker
from services.reasoning.endpoint_limits import EndpointLimits
from services.reasoning.endpoint_state import Breaker as BreakerPosition
from services.reasoning.endpoint_state import EndpointState

_POSITIONS: Final = {
    STATE_OPEN: BreakerPosition.OPEN,
    STATE_HALF_OPEN: BreakerPosition.HALF_OPEN,
}


@dataclass(frozen=True, slots=True)
class Endpoint:
    """Where one model is served."""

    breaker: Breaker
    limits: EndpointLimits

    def refusal(self) -> MeshError | None:
        """Why a call would be refused now, by what is known here; None where it may go out."""
        return self.breaker.refusal() or self.limits.refusal()


class Endpoints:
    """The endpoints by the names of their models; models that run in this process have none."""

    def __init__(self, endpoints: Mapping[str, Endpoint]) -> None:
        self._endpoints: Final = endpoints

    def get(self, model: str) -> Endpoint | None:
        """The endpoint of a model; None where it has none."""
        return self._endpoints.get(model)

    def refusal(self, model: str) -> MeshError | None:
        """Why a call of a model would be refused now; None where it may go out."""
        endpoint = self._endpoints.get(model)
        return endpoint.refusal() if endpoint else None

    def state(self, model: str) -> EndpointState:
        """As lists of models show it: by what is known here, which is then looked up again."""
        endpoint = self._endpoints.get(model)
        if endpoint is None:
            return EndpointState()
        endpoint.breaker.glance()
        position = _POSITIONS.get(endpoint.breaker.state, BreakerPosition.CLOSED)
        refusal = endpoint.refusal()
        if refusal is None:
            return EndpointState(position)
        seconds = refusal.retry_after_seconds or 0.0
        return EndpointState(position, f"{refusal.message} Next in {seconds:.1f} s.")

    async def close(self) -> None:
        """Says what is still to be said to other processes."""
        for each in self._endpoints.values():
            await each.limits.close()
            await each.breaker.close()
