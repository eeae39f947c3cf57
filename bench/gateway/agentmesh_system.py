"""Agentmesh: reasoning with the provider for OpenAI's API, called through Envoy.

By a call for each question, as any client may; and by streams that carry the questions of one
moment together, as executors ask and as who has many may, too.
"""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml
from google.protobuf.duration_pb2 import Duration

from agentmesh.common.v1.batch_pb2 import ItemContext
from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from bench.gateway import reference_call
from bench.gateway.grpc_batches import GrpcBatches
from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http_calls import CallFailed
from bench.gateway.system import Running, SystemUnavailable
from tier.api import Event, MeshOptions, MeshStartError, Tier, start

_TENANT: Final = "bench"
_HEADERS: Final = {"x-agentmesh-tenant": _TENANT}
_CALL_SECONDS: Final = 30
_SERVICE: Final = "/agentmesh.reasoning.v1.ReasoningService"
# Spending is counted against limits as ever, and these are out of reach.
_LIMIT_MICROS: Final = 1_000_000_000_000_000


class Agentmesh:
    """A staging mesh: a process a service, and the gateway before them."""

    def __init__(self, *, streamed: bool = False) -> None:
        """`streamed`: calls travel together on streams; else each by itself."""
        self.name: Final = "agentmesh-streams" if streamed else "agentmesh"
        self.title: Final = "Agentmesh on streams" if streamed else "Agentmesh"
        self._streamed: Final = streamed

    def install(self) -> str:
        """Nothing: it is what runs this."""
        method = "BatchGenerateStream" if self._streamed else "Generate"
        return (
            f"tier staging, `{method}` and `GenerateStream` by gRPC through Envoy; identity, tenant"
            " limits, a price, and a governor that admits and settles each call"
        )

    @asynccontextmanager
    async def run(self, upstream_port: int, folder: Path) -> AsyncGenerator[Running]:
        """Starts a mesh whose only paid model is the upstream."""
        config = folder / "bench.yaml"
        config.write_text(yaml.safe_dump(_settings(upstream_port)), "utf-8")
        options = MeshOptions(
            tier=Tier.STAGING, data_dir=folder / "data", port=0, config=config, no_auth=True
        )
        try:
            mesh = await start(options, _ignore)
        except MeshStartError as error:
            raise SystemUnavailable(str(error)) from error
        async with mesh:
            parts = {each.name: each.pid for each in mesh.state.processes}
            # This process has the mesh's supervisor, and calls: it is no part.
            parts = {name: pid for name, pid in parts.items() if pid != os.getpid()}
            calls = GrpcCalls(mesh.address, _HEADERS)
            try:
                yield Running(_MeshCalls(calls, streamed=self._streamed), parts)
            finally:
                calls.close()


class _MeshCalls:
    def __init__(self, calls: GrpcCalls, *, streamed: bool) -> None:
        self._calls: Final = calls
        message = Message(role=ROLE_USER, parts=[Part(text=reference_call.QUESTION)])
        self._request: Final = pb.GenerateRequest(
            messages=[message],
            model=reference_call.MODEL,
            parameters=pb.GenerationParameters(max_output_tokens=64),
        )
        self._whole: Final = self._request.SerializeToString()
        in_pieces = pb.GenerateStreamRequest(request=self._request)
        self._in_pieces: Final = in_pieces.SerializeToString()
        self._batches: Final = GrpcBatches(
            calls,
            f"{_SERVICE}/BatchGenerateStream",
            request=pb.BatchGenerateStreamRequest,
            response=pb.BatchGenerateStreamResponse.FromString,
        )
        self._ask: Final = self._together if streamed else self._by_itself

    async def whole(self) -> None:
        """The whole answer at once."""
        _check(await self._ask())

    async def _by_itself(self) -> pb.GenerateResponse | None:
        answers: list[bytes] = []
        await self._calls.ask(f"{_SERVICE}/Generate", self._whole, answers.append)
        return pb.GenerateResponse.FromString(answers[-1]) if answers else None

    async def _together(self) -> pb.GenerateResponse:
        context = ItemContext(tenant=_TENANT, timeout=Duration(seconds=_CALL_SECONDS))
        return await self._batches.ask(pb.BatchGenerateItem(context=context, request=self._request))

    async def stream(self, first: Callable[[], None]) -> None:
        """The answer in pieces; calls `first` at the first one."""
        updates: list[pb.GenerateStreamResponse] = []
        begun = False

        def take(message: bytes) -> None:
            nonlocal begun
            update = pb.GenerateStreamResponse.FromString(message)
            if update.text_delta and not begun:
                first()
                begun = True
            updates.append(update)

        await self._calls.ask(f"{_SERVICE}/GenerateStream", self._in_pieces, take)
        _check(updates[-1].response if updates else None)


def _check(answer: pb.GenerateResponse | None) -> None:
    text = "".join(part.text for part in answer.message.parts) if answer else ""
    if text != reference_call.ANSWER:
        raise CallFailed(f"answered {text[:200]!r}")
    if answer and answer.degradations:
        raise CallFailed(f"was degraded: {answer.degradations[0]}")


def _settings(upstream_port: int) -> dict[str, Any]:
    return {
        "reasoning": {
            "models": {
                reference_call.MODEL: {
                    "provider": "openai",
                    "address": f"http://127.0.0.1:{upstream_port}/v1",
                }
            },
            "tiers": {"fast": [reference_call.MODEL]},
        },
        # What it opens in any case is open before calls are counted.
        "memory": {"open_vectors_after_seconds": 0},
        "governor": {
            "day_limit_micros": _LIMIT_MICROS,
            "month_limit_micros": _LIMIT_MICROS,
        },
    }


def _ignore(event: Event) -> None:
    """A start that fails says so by itself."""
