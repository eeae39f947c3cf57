"""Our models on a real Triton server."""

import asyncio
import sys
from collections.abc import AsyncIterator
from functools import partial
from pathlib import Path
from typing import Any, cast

import grpc
import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray
from tritonclient.grpc.aio import InferenceServerClient, InferInput
from tritonclient.utils import InferenceServerException

from meshtest.child_server import binary, free_port
from meshtest.eventually import eventually
from models.minilm.embedder import MiniLmEmbedder
from models.minilm.reference import MIN_COSINE, cosines, reference, require_model
from models.triton_server import RunningTriton, TritonFailed, TritonOptions, running_triton

pytestmark = pytest.mark.asyncio(loop_scope="module")


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def triton(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[RunningTriton]:
    """A running Triton with the shipped repository."""
    require_model()
    options = TritonOptions(binary("TRITON_SERVER"), free_port())
    log_path = tmp_path_factory.mktemp("triton") / "triton.log"
    async with running_triton(options, log_path=log_path) as running:
        yield running


@pytest_asyncio.fixture(loop_scope="module", scope="module")
async def client(triton: RunningTriton) -> AsyncIterator[Any]:
    """A client of the running Triton. Its package has no types."""
    client = InferenceServerClient(triton.target)
    yield client
    await client.close()


async def _embed(client: Any, texts: list[bytes]) -> NDArray[np.float32]:
    encoded = cast(Any, InferInput("TEXT", [len(texts), 1], "BYTES"))
    encoded.set_data_from_numpy(np.array([[text] for text in texts], np.object_))
    answer = await client.infer("text_embedder", [encoded], client_timeout=30)
    return answer.as_numpy("EMBEDDING")


async def test_it_gives_the_vectors_of_the_reference_and_of_the_embedder(
    client: Any,
) -> None:
    """Triton, the embedder in this process and the reference runtime agree."""
    expected = reference()
    vectors = await _embed(client, [text.encode() for text in expected.texts])
    assert cosines(vectors, expected.vectors).min() > MIN_COSINE
    assert cosines(vectors, MiniLmEmbedder().embed(expected.texts)).min() > MIN_COSINE


async def test_concurrent_requests_keep_their_answers_apart(
    client: Any,
) -> None:
    """Requests that the server joins to one batch get each its own vectors."""
    expected = reference()
    numbers = [[number % 11, (number * 7) % 11][: 1 + number % 2] for number in range(60)]
    answers = await asyncio.gather(
        *(_embed(client, [expected.texts[at].encode() for at in some]) for some in numbers)
    )
    for some, vectors in zip(numbers, answers, strict=True):
        assert cosines(vectors, expected.vectors[some]).min() > MIN_COSINE
    statistics = await client.get_inference_statistics("text_embedder", as_json=True)
    (model,) = statistics["model_stats"]
    assert int(model["execution_count"]) < int(model["inference_count"])


async def test_a_request_that_is_not_utf8_fails_alone(client: Any) -> None:
    """The error names the text and the byte; requests beside it are answered."""
    expected = reference()
    bad, *good = await asyncio.gather(
        _embed(client, [b"good", b"caf\xe9"]),
        *(_embed(client, [expected.texts[0].encode()]) for _ in range(8)),
        return_exceptions=True,
    )
    assert isinstance(bad, InferenceServerException)
    error = cast(Any, bad)
    assert error.status() == str(grpc.StatusCode.INVALID_ARGUMENT)
    assert "texts[1]: byte 3 is not valid UTF-8" in error.message()
    for vectors in good:
        assert not isinstance(vectors, BaseException)
        assert cosines(vectors, expected.vectors[:1]).min() > MIN_COSINE


async def _listens(port: int) -> bool:
    try:
        _, writer = await asyncio.open_connection("127.0.0.1", port)
    except ConnectionRefusedError:
        return False
    writer.close()
    return True


async def test_nothing_is_left_of_a_stopped_server(tmp_path: Path) -> None:
    """The process has ended, and nobody listens."""
    require_model()
    ports = free_port(), free_port()
    options = TritonOptions(binary("TRITON_SERVER"), ports[0], metrics_port=ports[1])
    async with running_triton(options, log_path=tmp_path / "triton.log") as running:
        # Its metrics are there a moment after its models are.
        for port in ports:
            await eventually(partial(_listens, port))
    assert running.process.returncode == 0
    for port in ports:
        assert not await _listens(port)


async def test_a_server_that_ends_at_once_says_why(tmp_path: Path) -> None:
    """The error has the end of what the program wrote."""
    require_model()
    program = tmp_path / "tritonserver"
    program.write_text(f"#!{sys.executable}\nimport sys\nsys.exit('No such backend.')\n")
    program.chmod(0o755)
    with pytest.raises(TritonFailed, match=r"^Triton did not come up\.\nNo such backend\.\n$"):
        async with running_triton(
            TritonOptions(program, free_port()), log_path=tmp_path / "triton.log"
        ):
            pytest.fail("it cannot be ready")
