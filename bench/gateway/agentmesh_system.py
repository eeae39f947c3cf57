"""Agentmesh: reasoning with the provider for OpenAI's API, called through Envoy."""

import os
from collections.abc import AsyncGenerator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any, Final

import yaml

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Message, Part
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from bench.gateway import reference_call
from bench.gateway.grpc_calls import GrpcCalls
from bench.gateway.http_calls import CallFailed
from bench.gateway.system import Running, SystemUnavailable
from tier.api import Event, MeshOptions, MeshStartError, Tier, start

_HEADERS: Final = {"x-agentmesh-tenant": "bench"}
_SERVICE: Final = "/agentmesh.reasoning.v1.ReasoningService"
# Spending is counted against limits as ever, and these are out of reach.
_LIMIT_MICROS: Final = 1_000_000_000_000_000


class Agentmesh:
    """A staging mesh: a process a service, and the gateway before them."""

    def __init__(self) -> None:
        self.name: Final = "agentmesh"
        self.title: Final = "Agentmesh"

    def install(self) -> str:
        """Nothing: it is what runs this."""
        return (
            "tier staging, `Generate` and `GenerateStream` by gRPC through Envoy; identity, tenant "
            "limits, a price, and a governor that admits and settles each call"
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
                yield Running(_MeshCalls(calls), parts)
            finally:
                calls.close()


class _MeshCalls:
    def __init__(self, calls: GrpcCalls) -> None:
        self._calls: Final = calls
        message = Message(role=ROLE_USER, parts=[Part(text=reference_call.QUESTION)])
        request = pb.GenerateRequest(
            messages=[message],
            model=reference_call.MODEL,
            parameters=pb.GenerationParameters(max_output_tokens=64),
        )
        self._whole: Final = request.SerializeToString()
        self._streamed: Final = pb.GenerateStreamRequest(request=request).SerializeToString()

    async def whole(self) -> None:
        """The whole answer at once."""
        answers: list[bytes] = []
        await self._calls.ask(f"{_SERVICE}/Generate", self._whole, answers.append)
        _check(pb.GenerateResponse.FromString(answers[-1]) if answers else None)

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

        await self._calls.ask(f"{_SERVICE}/GenerateStream", self._streamed, take)
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
