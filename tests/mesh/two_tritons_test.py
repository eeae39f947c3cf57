"""Two Tritons behind the shipped Envoy: the quicker does more, a dead one nothing."""

import asyncio
import json
import os
import signal
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, cast

import pytest
import pytest_asyncio
import yaml
from tritonclient.grpc.aio import InferenceServerClient

from agentmesh.common.v1 import conversation_pb2
from meshkit.errors import MeshError
from meshtest.child_server import binary, free_port
from meshtest.eventually import eventually
from models.minilm.reference import require_model
from models.models_gateway import SHIPPED, TritonPlace, relocate
from models.orca_reporter import reporting
from models.triton_server import RunningTriton, TritonOptions, running_triton
from services.reasoning.generation import Prompt
from services.reasoning.model import Kind, ModelSpec
from services.reasoning.provider_failures import Failure, failure_of
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.provider_triton import TritonProvider
from tier.backoff import RestartPolicy
from tier.child import Child, ChildSpec
from tier.envoy_admin import admin_socket, ready_version
from tier.events import Reporter

pytestmark = pytest.mark.asyncio(loop_scope="module")

_MODEL = "text_generation"
_QUICK, _SLOW = "127.0.0.2", "127.0.0.3"
# Between pieces of the slow one, in milliseconds; an answer has some thirty.
_PACE = 20
_PAUSE_SECONDS = 0.02
# Answers by which to tell how calls are shared.
_ENOUGH = 60
_PATIENCE_SECONDS = 60.0
_PROMPT = Prompt(
    [
        conversation_pb2.Message(
            role=conversation_pb2.ROLE_USER, parts=[conversation_pb2.Part(text="Who are you?")]
        )
    ],
    (),
)


@dataclass(frozen=True, slots=True)
class _Mesh:
    quick: RunningTriton
    slow: RunningTriton
    port: int


def _paced(repository: Path) -> None:
    """Has the model pause between pieces."""
    file = repository / _MODEL / "config.pbtxt"
    before, key, after = file.read_text("utf-8").partition('key: "milliseconds_a_piece"')
    file.write_text(before + key + after.replace('"0"', f'"{_PACE}"'), "utf-8")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def mesh(tmp_path_factory: pytest.TempPathFactory) -> AsyncGenerator[_Mesh]:
    """A quick Triton that counts as one with a GPU, a slow one, and Envoy before them."""
    require_model()
    folder = tmp_path_factory.mktemp("tritons")
    port, triton_port, metrics_port, reports_port = (free_port() for _ in range(4))
    places = [TritonPlace(_QUICK, triton_port, gpu=True), TritonPlace(_SLOW, triton_port)]
    triton = binary("TRITON_SERVER")
    envoy = _envoy(folder, places, port, reports_port)
    quick = TritonOptions(triton, triton_port, metrics_port, _QUICK)
    slow = TritonOptions(triton, triton_port, metrics_port, _SLOW)
    reports = {f"{at}:{reports_port}": f"{at}:{metrics_port}" for at in (_QUICK, _SLOW)}
    async with (
        running_triton(quick, log_path=folder / "quick.log") as running_quick,
        running_triton(slow, log_path=folder / "slow.log", add_models=_paced) as running_slow,
        reporting(reports),
    ):
        envoy.spawn()
        try:
            await envoy.ready()
            yield _Mesh(running_quick, running_slow, port)
        finally:
            await envoy.stop()


def _envoy(folder: Path, places: Sequence[TritonPlace], port: int, reports_port: int) -> Child:
    """The shipped configuration, with its addresses."""
    shipped = yaml.safe_load(SHIPPED.read_text("utf-8"))
    configuration = folder / "models.json"
    moved = relocate(shipped, places, port=port, reports_port=reports_port)
    configuration.write_text(json.dumps(moved), "utf-8")
    admin = admin_socket(folder, "models")

    async def probe() -> str | None:
        return await ready_version(admin)

    return Child(
        ChildSpec(
            name="models",
            title="Envoy",
            command=(
                *(binary("ENVOY"), "-c", configuration, "--disable-hot-restart"),
                *("--concurrency", "1", "--log-level", "warning"),
            ),
            working_dir=folder,
            log=folder / "envoy.log",
            ports=(port,),
            probe=probe,
        ),
        Reporter(lambda _: None),
        RestartPolicy(),
    )


@asynccontextmanager
async def _provider(port: int, **headers: str) -> AsyncGenerator[TritonProvider]:
    provider = TritonProvider(
        ModelSpec(
            name="mine",
            provider="triton",
            kind=Kind.GENERATOR,
            context_tokens=100_000,
            max_output_tokens=4096,
            description="",
        ),
        model=_MODEL,
        address=f"127.0.0.1:{port}",
        timeouts=ProviderTimeouts(connect_seconds=30, silence_seconds=30, whole_seconds=60),
        headers={name.replace("_", "-"): value for name, value in headers.items()},
    )
    try:
        yield provider
    finally:
        await provider.close()


async def _answered(triton: RunningTriton) -> int:
    """Requests that the server has answered so far."""
    client = cast(Any, InferenceServerClient(triton.target))
    told = await client.get_inference_statistics(_MODEL, as_json=True)
    await client.close()
    (model,) = told["model_stats"]
    return int(model["inference_stats"]["success"].get("count", 0))


async def test_the_slower_server_gets_less_to_do(mesh: _Mesh) -> None:
    """By its own reports: callers that are never done share the servers unequally."""

    async def call() -> None:
        async with _provider(mesh.port) as provider:
            while True:
                await provider.complete(_PROMPT)
                # Asking is not what is to take most of the machine.
                await asyncio.sleep(_PAUSE_SECONDS)

    async def counts() -> tuple[int, int]:
        return await _answered(mesh.quick), await _answered(mesh.slow)

    seen = await counts()

    async def does_the_quick_one_do_more() -> bool:
        """Of the answers since the last look; evenly dealt, each would have the same number."""
        nonlocal seen
        now = await counts()
        quick, slow = (count - was for count, was in zip(now, seen, strict=True))
        if quick + slow < _ENOUGH:
            return False
        seen = now
        return quick > 5 * slow

    callers = asyncio.gather(*(call() for _ in range(6)))
    try:
        await eventually(does_the_quick_one_do_more, _PATIENCE_SECONDS)
        _, before = await counts()

        async def has_the_slow_one_answered() -> bool:
            return (await counts())[1] > before

        await eventually(has_the_slow_one_answered, _PATIENCE_SECONDS)
        assert not callers.done()
    finally:
        callers.cancel()
        await asyncio.wait([callers])


async def test_work_for_a_gpu_goes_to_the_server_with_one(mesh: _Mesh) -> None:
    """All of it, while that server is well."""
    before = await _answered(mesh.slow)
    async with _provider(mesh.port, x_agentmesh_device="gpu") as provider:
        for _ in range(10):
            await provider.complete(_PROMPT)
    assert await _answered(mesh.slow) == before


async def test_when_a_server_dies_the_other_does_its_work(mesh: _Mesh) -> None:
    """At most what goes out on its last connections is lost; work for a GPU goes to the other."""
    async with (
        _provider(mesh.port) as any_device,
        _provider(mesh.port, x_agentmesh_device="gpu") as on_gpu,
    ):
        os.killpg(mesh.quick.process.pid, signal.SIGKILL)
        # A server that is being torn down may still take connections, and calls with them.
        await mesh.quick.process.wait()
        failures: list[MeshError] = []
        for _ in range(10):
            try:
                await any_device.complete(_PROMPT)
                await on_gpu.complete(_PROMPT)
            except MeshError as error:
                failures.append(error)
        assert len(failures) <= 2
        assert {failure_of(error) for error in failures} <= {
            Failure.UNREACHABLE,
            Failure.BROKEN_ANSWER,
        }
        before = await _answered(mesh.slow)
        for _ in range(3):
            await any_device.complete(_PROMPT)
            await on_gpu.complete(_PROMPT)
        assert await _answered(mesh.slow) == before + 6
