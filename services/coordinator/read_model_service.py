"""ReadModelService: how the read model stands, and its rebuilding."""

from collections.abc import AsyncIterator
from contextlib import aclosing
from typing import Any

from agentmesh.coordinator.v1 import read_model_service_pb2 as pb
from agentmesh.coordinator.v1.read_model_service_pb2_grpc import ReadModelServiceServicer
from meshkit.operators import Operators
from services.coordinator.read_model_rebuild import Rebuild
from services.coordinator.read_model_state import ReadModelState, StreamState

_Context = Any


class ReadModelServicer(ReadModelServiceServicer):
    """The read model at the wire, for operators."""

    def __init__(self, state: ReadModelState, rebuild: Rebuild, operators: Operators) -> None:
        self._state = state
        self._rebuild = rebuild
        self._operators = operators

    async def GetReadModel(
        self, request: pb.GetReadModelRequest, context: _Context
    ) -> pb.GetReadModelResponse:
        self._operators.require_caller("look at the read model")
        return pb.GetReadModelResponse(
            kind=self._state.kind,
            size_bytes=await self._state.size_bytes(),
            streams=map(_place, await self._state.streams()),
        )

    async def RebuildReadModel(
        self, request: pb.RebuildReadModelRequest, context: _Context
    ) -> AsyncIterator[pb.RebuildReadModelResponse]:
        self._operators.require_caller("rebuild the read model")
        async with aclosing(self._rebuild.follow()) as steps:
            async for step in steps:
                yield pb.RebuildReadModelResponse(
                    passed=step.passed, total=step.total, done=step.done
                )


def _place(state: StreamState) -> pb.StreamPlace:
    place = pb.StreamPlace(
        stream=state.stream,
        position=state.position,
        last=state.last,
        events_behind=state.last - state.position,
    )
    place.behind.FromTimedelta(state.behind)
    return place
