"""Models behind the reasoning service."""

from collections.abc import Awaitable, Callable

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc
from meshkit import batch
from meshkit.batch_stream import BatchStream
from meshkit.coalesce import Coalescer
from meshkit.errors import CorruptData


class GrpcModels:
    """Models over ReasoningService.

    Calls that happen at the same time travel together (BatchGenerateStream); a call
    whose words are wanted while they are spoken travels alone.
    """

    def __init__(
        self,
        stub: reasoning_service_pb2_grpc.ReasoningServiceStub,
        *,
        timeout_seconds: float,
    ) -> None:
        self._stub = stub
        self._timeout_seconds = timeout_seconds
        stream = BatchStream[pb.BatchGenerateItem](
            stub.BatchGenerateStream,
            pb.BatchGenerateStreamRequest,
            who="reasoning",
            timeout_seconds=timeout_seconds,
            withdraws=True,
        )
        self._calls = Coalescer[pb.BatchGenerateItem, pb.GenerateResponse](
            stream.send, withdraw=stream.withdraw
        )

    async def generate(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        """The model's next message."""
        # Copied, never given to a constructor: that would cost several times as much.
        item = pb.BatchGenerateItem()
        item.context.CopyFrom(batch.item_context(self._timeout_seconds))
        item.request.CopyFrom(request)
        return await batch.in_time(self._calls.call(item), item.context, "The model")

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
