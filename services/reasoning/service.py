"""The gRPC face of reasoning."""

from collections.abc import AsyncGenerator, AsyncIterator, Awaitable, Callable, Mapping
from contextlib import aclosing
from typing import Final

from agentmesh.common.v1 import batch_pb2
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit import batch, identity, page_token
from meshkit.errors import NotImplementedYet
from services.reasoning import convert
from services.reasoning.endpoint_state import EndpointStates
from services.reasoning.model import ModelSpec, Tier
from services.reasoning.model_check import ModelCheck
from services.reasoning.price_list import Price
from services.reasoning.reasoner import Reasoner


class ReasoningService(pb_grpc.ReasoningServiceServicer):
    """Serves the contract; what it does not define answers UNIMPLEMENTED with a sentence."""

    def __init__(
        self,
        reasoner: Reasoner,
        check: ModelCheck,
        prices: Mapping[str, Price],
        endpoints: EndpointStates,
    ) -> None:
        self._reasoner: Final = reasoner
        self._check: Final = check
        self._prices: Final = prices
        self._endpoints: Final = endpoints

    async def Generate(self, request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
        """Answers a conversation with the model's next message."""
        return await self._generate(request, identity.current().caller)

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: object
    ) -> AsyncIterator[pb.BatchGenerateResponse]:
        """Generate for many; each is answered as it is done."""
        answers = batch.serve_items(request.items, _context, self._item_generator())
        async for some in answers:
            yield pb.BatchGenerateResponse(results=[convert.batch_result(*each) for each in some])

    async def BatchGenerateStream(
        self, request_iterator: AsyncIterator[pb.BatchGenerateStreamRequest], context: object
    ) -> AsyncIterator[pb.BatchGenerateStreamResponse]:
        """Generate for many, one batch after the other; each is answered as it is done."""
        answers = batch.serve_stream(request_iterator, _context, self._item_generator())
        async for some in answers:
            yield pb.BatchGenerateStreamResponse(
                results=[convert.batch_result(*each) for each in some]
            )

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: object
    ) -> AsyncGenerator[pb.GenerateStreamResponse]:
        """Generate with the text as it appears."""
        asked = convert.generation_request(
            request.request, by=identity.current().caller, within="request."
        )
        async with aclosing(self._reasoner.stream(asked)) as updates:
            async for update in updates:
                yield convert.stream_response(update)

    async def Embed(self, request: pb.EmbedRequest, context: object) -> pb.EmbedResponse:
        """Turns texts into vectors."""
        return convert.embed_response(
            await self._reasoner.embed(convert.texts(request), request.model)
        )

    async def ListModels(
        self, request: pb.ListModelsRequest, context: object
    ) -> pb.ListModelsResponse:
        """Answers the configured models."""
        models = self._reasoner.models(convert.tier(request.tier, field="tier"))
        query = page_token.query_of(request)
        start = int(page_token.decode(query, request.page_token, shape=r"[0-9]{1,6}") or 0)
        end = start + page_token.page_size(request.page_size, default=50)
        return pb.ListModelsResponse(
            models=[self._model(*each) for each in models[start:end]],
            next_page_token=page_token.encode(query, str(end)) if end < len(models) else "",
        )

    async def Classify(self, request: pb.ClassifyRequest, context: object) -> pb.ClassifyResponse:
        """Says which tier a request would go to."""
        raise NotImplementedYet(
            "Classify is part of the contract, but this version does not serve it."
        )

    async def CheckModel(
        self, request: pb.CheckModelRequest, context: object
    ) -> pb.CheckModelResponse:
        """Calls a model once and says how that went."""
        spending = convert.check_spending(request)
        checked = await self._check.check(request.model, spending)
        return convert.check_response(checked, self._model(checked.model, checked.tier))

    def _model(self, spec: ModelSpec, of_tier: Tier | None) -> model_pb2.Model:
        return convert.model(spec, of_tier, self._prices, self._endpoints.state(spec.name))

    def _item_generator(self) -> Callable[[pb.BatchGenerateItem], Awaitable[pb.GenerateResponse]]:
        # Not the callers that its items name: whoever makes a batch names these.
        by = identity.current().caller
        return lambda item: self._generate(item.request, by)

    async def _generate(self, request: pb.GenerateRequest, by: str) -> pb.GenerateResponse:
        generation = await self._reasoner.generate(convert.generation_request(request, by=by))
        return convert.generation_response(generation)


def _context(item: pb.BatchGenerateItem) -> batch_pb2.ItemContext:
    return item.context
