"""The gRPC face of reasoning."""

from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Final

from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from agentmesh.reasoning.v1 import reasoning_service_pb2_grpc as pb_grpc
from meshkit import batch
from meshkit.errors import InvalidField, NotImplementedYet
from services.reasoning import convert, page_token
from services.reasoning.price_list import Price
from services.reasoning.reasoner import Reasoner

_PAGE: Final = 50
_LARGEST_PAGE: Final = 1000


class ReasoningService(pb_grpc.ReasoningServiceServicer):
    """Serves the contract; what it does not define answers UNIMPLEMENTED with a sentence."""

    def __init__(self, reasoner: Reasoner, prices: Mapping[str, Price]) -> None:
        self._reasoner: Final = reasoner
        self._prices: Final = prices

    async def Generate(self, request: pb.GenerateRequest, context: object) -> pb.GenerateResponse:
        """Answers a conversation with the model's next message."""
        return await self._generate(request)

    async def BatchGenerate(
        self, request: pb.BatchGenerateRequest, context: object
    ) -> AsyncIterator[pb.BatchGenerateResponse]:
        """Generate for many; each is answered as it is done."""
        answers = batch.serve_items(request.items, lambda item: item.context, self._item)
        async for some in answers:
            yield pb.BatchGenerateResponse(results=[convert.batch_result(*each) for each in some])

    async def GenerateStream(
        self, request: pb.GenerateStreamRequest, context: object
    ) -> AsyncGenerator[pb.GenerateStreamResponse]:
        """Generate with the text as it appears."""
        asked = convert.generation_request(request.request, within="request.")
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
        if not 0 <= request.page_size <= _LARGEST_PAGE:
            raise InvalidField("page_size", f"must be from 0 to {_LARGEST_PAGE}")
        models = self._reasoner.models(convert.tier(request.tier, field="tier"))
        start = page_token.decode(request.page_token, request.tier)
        end = start + (request.page_size or _PAGE)
        return pb.ListModelsResponse(
            models=[convert.model(*each, self._prices) for each in models[start:end]],
            next_page_token=page_token.encode(end, request.tier) if end < len(models) else "",
        )

    async def Classify(self, request: pb.ClassifyRequest, context: object) -> pb.ClassifyResponse:
        """Says which tier a request would go to."""
        raise NotImplementedYet(
            "Classify is part of the contract, but this version does not serve it."
        )

    async def _item(self, item: pb.BatchGenerateItem) -> pb.GenerateResponse:
        return await self._generate(item.request)

    async def _generate(self, request: pb.GenerateRequest) -> pb.GenerateResponse:
        generation = await self._reasoner.generate(convert.generation_request(request))
        return convert.generation_response(generation)
