"""A reasoning service with the real contract that does as its callers say."""

import asyncio
import os
from collections.abc import AsyncIterator
from typing import Any

from agentmesh.reasoning.v1 import model_pb2, reasoning_service_pb2_grpc
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import deadline, identity
from meshkit.errors import DependencyUnavailable
from meshkit.server import Registration

SERVICE = "agentmesh.reasoning.v1.ReasoningService"
# Texts to embed with a behaviour; all others are just answered.
DIES = "dies"
UNAVAILABLE = "unavailable"
HANGS = "hangs"
# A number of seconds to take, behind this.
TAKES = "takes "
# An instance of this name takes so many seconds more for every call.
SLOW = "slow"
_SLOWER_SECONDS = 0.05

# Typed as abstract, though what is not overridden answers UNIMPLEMENTED.
_Servicer: Any = reasoning_service_pb2_grpc.ReasoningServiceServicer


class StandInReasoning(_Servicer):
    """Says who answered: its name is that of the model."""

    def __init__(self, instance: str) -> None:
        self._instance = instance

    async def Embed(self, request: Any, context: Any) -> Any:
        """Does what the text says."""
        await self._behave(request.texts[0])
        return pb.EmbedResponse(model=self._instance)

    async def ListModels(self, request: Any, context: Any) -> Any:
        """One model that says how the call arrived."""
        seconds = deadline.remaining_seconds() or 0.0
        return pb.ListModelsResponse(
            models=[
                model_pb2.Model(
                    name=self._instance,
                    provider=identity.current().caller,
                    context_tokens=round(seconds * 1000),
                )
            ]
        )

    async def GenerateStream(self, request: Any, context: Any) -> AsyncIterator[Any]:
        """A piece of text each 20 ms, as many as tokens are asked for, then the whole."""
        for number in range(request.request.parameters.max_output_tokens):
            yield pb.GenerateStreamResponse(text_delta=f"{number} ")
            await asyncio.sleep(0.02)
        yield pb.GenerateStreamResponse(response=pb.GenerateResponse(model=self._instance))

    async def BatchGenerateStream(self, requests: Any, context: Any) -> AsyncIterator[Any]:
        """Answers each item at once."""
        async for request in requests:
            results = [
                pb.BatchGenerateResult(
                    index=item.context.index, response=pb.GenerateResponse(model=self._instance)
                )
                for item in request.items
            ]
            if results:
                yield pb.BatchGenerateStreamResponse(results=results)

    async def _behave(self, text: str) -> None:
        if self._instance == SLOW:
            await asyncio.sleep(_SLOWER_SECONDS)
        if text.startswith(TAKES):
            await asyncio.sleep(float(text.removeprefix(TAKES)))
        elif text == DIES:
            os._exit(1)
        elif text == HANGS:
            await asyncio.Event().wait()
        elif text == UNAVAILABLE:
            raise DependencyUnavailable("Not today.")


def registration(instance: str) -> Registration:
    """The stand-in, to be served."""
    return Registration(
        SERVICE,
        reasoning_service_pb2_grpc.add_ReasoningServiceServicer_to_server,
        StandInReasoning(instance),
    )
