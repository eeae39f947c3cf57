"""Models behind the reasoning service."""

from collections.abc import Awaitable, Callable
from typing import Final

from agentmesh.common.v1 import tier_pb2
from agentmesh.reasoning.v1 import model_pb2, reasoning_service_pb2_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import batch
from meshkit.batch_stream import BatchStream
from meshkit.clock import Clock
from meshkit.coalesce import Coalescer
from meshkit.errors import CorruptData, MeshError
from services.executor.model_step import Room

# Models come and go with the configuration of reasoning, which restarts then.
_KEPT_SECONDS: Final = 60.0
_LIST_TIMEOUT_SECONDS: Final = 5.0
_PAGE: Final = 1000


class GrpcModels:
    """Models over ReasoningService.

    Calls that happen at the same time travel together (BatchGenerateStream); a call
    whose words are wanted while they are spoken travels alone.
    """

    def __init__(
        self,
        stub: reasoning_service_pb2_grpc.ReasoningServiceStub,
        clock: Clock,
        *,
        timeout_seconds: float,
    ) -> None:
        self._stub = stub
        self._clock = clock
        # By tier: until when it is believed, and what it is.
        self._rooms: dict[tier_pb2.ModelTier, tuple[float, Room]] = {}
        self._timeout_seconds = timeout_seconds
        stream = BatchStream[batch.Unsent](
            stub.BatchGenerateStream,
            pb.BatchGenerateStreamRequest,
            who="reasoning",
            timeout_seconds=timeout_seconds,
            withdraws=True,
        )
        self._calls = Coalescer[batch.Unsent, pb.GenerateResponse](
            stream.send, withdraw=stream.withdraw
        )

    async def room(self, tier: tier_pb2.ModelTier) -> Room:
        """The smallest of the tier's models; of all models, if it is unspecified."""
        kept = self._rooms.get(tier)
        now = self._clock.monotonic_seconds()
        if kept is not None and kept[0] > now:
            return kept[1]
        request = pb.ListModelsRequest(tier=tier, page_size=_PAGE)
        try:
            answer = await self._stub.ListModels(request, timeout=_LIST_TIMEOUT_SECONDS)
        except MeshError:
            if kept is None:
                raise
            return kept[1]
        models = [each for each in answer.models if each.kind == model_pb2.MODEL_KIND_GENERATOR]
        room = Room(
            min((each.context_tokens for each in models), default=0),
            min((each.max_output_tokens for each in models), default=0),
        )
        self._rooms[tier] = (now + _KEPT_SECONDS, room)
        return room

    async def generate(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        """The model's next message."""
        context = batch.item_context(self._timeout_seconds)
        answer = self._calls.call(batch.Unsent(context, request))
        return await batch.in_time(answer, context, "The model")

    async def generate_stream(
        self, request: pb.GenerateRequest, on_text: Callable[[str], Awaitable[None]]
    ) -> pb.GenerateResponse:
        """The model's next message; its text goes to `on_text` as it appears."""
        updates = self._stub.GenerateStream(
            pb.GenerateStreamRequest(request=request), timeout=self._timeout_seconds
        )
        async for update in updates:
            if update.HasField("response"):
                return update.response
            await on_text(update.text_delta)
        raise CorruptData("The model's stream ended without its response.")
