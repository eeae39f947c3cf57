"""Test-only: a process that calls a model through all that is done about models that fail.

Arguments: the address of Redis, the port of the upstream. Each line of its input is one
order; each line of its output is what became of one call.

    calls N           makes N calls at once
    pace N SECONDS    makes N calls a second for so long
"""

import asyncio
import io
import random
import sys
from collections.abc import AsyncGenerator
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, Final, cast

from agentmesh.common.v1.conversation_pb2 import ROLE_ASSISTANT, Message
from meshkit import log, redis_store
from meshkit.clock import SystemClock
from meshkit.errors import MeshError
from meshkit.ids import RandomIds
from meshkit.redis_line import RedisLine
from meshkit.service import Resources
from services.reasoning.catalogue import Catalogue
from services.reasoning.endpoint_rates import RateRules
from services.reasoning.generation import Completion, Generator, Prompt, StopReason
from services.reasoning.model import Tier
from services.reasoning.provided_model import ProvidedModel
from services.reasoning.provider_failures import Failure
from services.reasoning.resilience_parts import EndpointLimitSettings, Resilience
from services.reasoning.resilience_settings import BreakerSettings, ResilienceSettings
from services.reasoning.scripted_generator import call_of, failing, spec

_LARGE: Final = spec("large")
_SETTINGS: Final = ResilienceSettings(
    breaker=BreakerSettings(
        window_seconds=2, pause_seconds=0.5, longest_pause_seconds=2.0, probe_seconds=120.0
    )
)


class _LineProvider:
    """One connection a call; a line that comes back is an answer."""

    def __init__(self, port: int) -> None:
        self._port: Final = port

    async def complete(self, prompt: Prompt) -> Completion:
        try:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
        except OSError as error:
            raise failing(Failure.UNREACHABLE) from error
        try:
            if not await reader.readline():
                raise failing(Failure.SERVER_ERROR)
        except OSError as error:
            raise failing(Failure.UNREACHABLE) from error
        finally:
            writer.close()
        return Completion(Message(role=ROLE_ASSISTANT), StopReason.END, 1, 1)

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        yield await self.complete(prompt)


async def _call(model: Generator) -> None:
    try:
        await model.generate(call_of(_LARGE))
    except MeshError as error:
        print(error.reason, flush=True)
    else:
        print("ANSWERED", flush=True)


async def _obey(model: Generator, order: list[str]) -> None:
    seconds = float(order[2]) if order[0] == "pace" else 0.0
    count = int(int(order[1]) * (seconds or 1))
    loop = asyncio.get_running_loop()
    begun = loop.time()
    async with asyncio.TaskGroup() as calls:
        for number in range(count):
            if seconds:
                await asyncio.sleep(max(0.0, begun + seconds * number / count - loop.time()))
            calls.create_task(_call(model))


async def _main(redis_url: str, port: int) -> None:
    orders = asyncio.StreamReader()
    await asyncio.get_running_loop().connect_read_pipe(
        lambda: asyncio.StreamReaderProtocol(orders), sys.stdin
    )
    async with AsyncExitStack() as stack:
        redis = await stack.enter_async_context(redis_store.connect(redis_url))
        resources = Resources(
            stack=stack,
            bus=cast(Any, None),
            redis=redis,
            channels=cast(Any, None),
            clock=SystemClock(),
            ids=RandomIds(),
            log=log.get("test", stream=io.StringIO()),
            data_dir=Path(),
        )
        resilience = Resilience(
            _SETTINGS,
            Catalogue([_LARGE], {Tier.BALANCED: ["large"]}, default_tier=Tier.BALANCED),
            {_LARGE: EndpointLimitSettings(RateRules(), 10_000)},
            resources,
            await stack.enter_async_context(RedisLine(redis)),
            random=random.random,
        )
        model = resilience.around_providers(ProvidedModel({"large": _LineProvider(port)}))
        async with asyncio.TaskGroup() as obeying:
            while order := (await orders.readline()).decode().split():
                obeying.create_task(_obey(model, order))


if __name__ == "__main__":
    asyncio.run(_main(sys.argv[1], int(sys.argv[2])))
