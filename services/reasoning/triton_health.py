"""What Triton says of its models, beside what is known of them as endpoints."""

import asyncio
from collections.abc import Mapping
from dataclasses import dataclass, replace
from typing import Any, Final

import grpc
from tritonclient.grpc import service_pb2, service_pb2_grpc

from services.reasoning.endpoint_state import EndpointState, EndpointStates

_ANSWER_SECONDS: Final = 2.0
# One that is away is asked about more often: it may be starting.
_AWAY_SECONDS: Final = 0.5
# Any: these packages have no types.
_messages: Final[Any] = service_pb2
_services: Final[Any] = service_pb2_grpc


@dataclass(frozen=True, slots=True)
class TritonModel:
    """Where a model of the mesh is to be found."""

    # host:port of Triton's gRPC, or of what stands before several.
    target: str
    # What Triton calls it.
    name: str


class TritonHealth:
    """The states of endpoints, with what Triton has not loaded as unavailable.

    Nothing is asked by a look at them: `follow` does that now and then.
    """

    def __init__(
        self,
        states: EndpointStates,
        models: Mapping[str, TritonModel],
        *,
        every_seconds: float,
    ) -> None:
        """`models` by their names in the mesh; they are asked about `every_seconds`."""
        self._states: Final = states
        self._models: Final = models
        self._every_seconds: Final = every_seconds
        self._told: Final[dict[str, EndpointState]] = {}

    def state(self, model: str) -> EndpointState:
        """The endpoint's state. What a breaker says comes before what Triton says."""
        state = self._states.state(model)
        told = self._told.get(model)
        if told is None or state.reason:
            return state
        return replace(state, reason=told.reason, unavailable=told.unavailable)

    async def follow(self) -> None:
        """Asks for as long as it is not cancelled."""
        counts: dict[str, _Counts] = {}
        targets = {model.target for model in self._models.values()}
        channels = {target: grpc.aio.insecure_channel(target) for target in targets}
        try:
            while True:
                for name, model in self._models.items():
                    channel, before = channels[model.target], counts.get(name, _Counts())
                    self._told[name], counts[name] = await _ask(channel, model, before)
                away = any(told.unavailable for told in self._told.values())
                pause = min(_AWAY_SECONDS, self._every_seconds) if away else self._every_seconds
                await asyncio.sleep(pause)
        finally:
            await asyncio.gather(*(each.close() for each in channels.values()))


@dataclass(frozen=True, slots=True)
class _Counts:
    """Requests of a model since its server started."""

    answered: int = 0
    failed: int = 0


async def _ask(
    channel: grpc.aio.Channel, model: TritonModel, before: _Counts
) -> tuple[EndpointState, _Counts]:
    """How the model is doing, given what it had done `before`, and what it has done by now."""
    stub = _services.GRPCInferenceServiceStub(channel)
    try:
        ready = await stub.ModelReady(
            _messages.ModelReadyRequest(name=model.name), timeout=_ANSWER_SECONDS
        )
        if not ready.ready:
            return _unavailable(f"Triton at {model.target} has not loaded {model.name}."), before
        told = await stub.ModelStatistics(
            _messages.ModelStatisticsRequest(name=model.name), timeout=_ANSWER_SECONDS
        )
    except grpc.aio.AioRpcError as error:
        said = error.code().name.lower().replace("_", " ")
        return _unavailable(f"Triton at {model.target} does not answer ({said})."), before
    now = _Counts(
        sum(each.inference_stats.success.count for each in told.model_stats),
        sum(each.inference_stats.fail.count for each in told.model_stats),
    )
    failed, answered = now.failed - before.failed, now.answered - before.answered
    # Of several servers behind one address each counts for itself, from its own start.
    if failed <= 0 or answered < 0:
        return EndpointState(), now
    reason = f"{failed} of {failed + answered} requests failed on Triton lately."
    return EndpointState(reason=reason), now


def _unavailable(reason: str) -> EndpointState:
    return EndpointState(reason=reason, unavailable=True)
