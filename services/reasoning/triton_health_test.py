"""What is told of models that Triton serves."""

import asyncio
from collections.abc import AsyncGenerator
from contextlib import asynccontextmanager, suppress
from pathlib import Path
from typing import Any, cast

from tritonclient.grpc.aio import InferenceServerClient

from meshtest.child_server import binary, free_port
from meshtest.eventually import eventually
from models.minilm.reference import require_model
from models.triton_server import TritonOptions, running_triton
from services.reasoning.endpoint_state import Breaker, EndpointState
from services.reasoning.triton_health import TritonHealth, TritonModel


class _Breakers:
    """What else is known: the breaker of `broken` is open."""

    def state(self, model: str) -> EndpointState:
        if model == "broken":
            return EndpointState(Breaker.OPEN, "9 of 9 calls failed.")
        return EndpointState(Breaker.CLOSED)


@asynccontextmanager
async def _followed(target: str) -> AsyncGenerator[TritonHealth]:
    models = {
        "mine": TritonModel(target, "text_generation"),
        "broken": TritonModel(target, "text_generation"),
    }
    health = TritonHealth(_Breakers(), models, every_seconds=0.05)
    following = asyncio.ensure_future(health.follow())
    try:
        yield health
    finally:
        following.cancel()
        with suppress(asyncio.CancelledError):
            await following


async def _becomes(health: TritonHealth, expected: EndpointState) -> None:
    def is_so() -> bool:
        assert health.state("mine") == expected
        return True

    await eventually(is_so)


async def test_a_model_is_unavailable_while_triton_has_not_loaded_it(tmp_path: Path) -> None:
    """What a breaker says comes first, and nothing is said of models that are well."""
    require_model()
    options = TritonOptions(
        binary("TRITON_SERVER"),
        free_port(),
        flags=["--model-control-mode=explicit", "--load-model=text_generation"],
    )
    target = f"127.0.0.1:{options.grpc_port}"
    closed = EndpointState(Breaker.CLOSED)
    async with _followed(target) as health:
        away = f"Triton at {target} does not answer (unavailable)."
        await _becomes(health, EndpointState(Breaker.CLOSED, away, unavailable=True))
        async with running_triton(options, log_path=tmp_path / "triton.log"):
            await _becomes(health, closed)
            assert health.state("broken").reason == "9 of 9 calls failed."
            assert health.state("another") == closed
            client = cast(Any, InferenceServerClient(target))
            await client.unload_model("text_generation")
            await client.close()
            unloaded = f"Triton at {target} has not loaded text_generation."
            await _becomes(health, EndpointState(Breaker.CLOSED, unloaded, unavailable=True))
