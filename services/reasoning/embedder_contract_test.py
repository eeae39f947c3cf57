"""What every embedder does, in this process and on a real Triton server."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from typing import Protocol

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from meshkit import deadline
from meshkit.errors import DeadlineExceeded, InvalidField, QueueFull, ShuttingDown
from meshtest.child_server import binary, free_port
from models.minilm.embedder import MiniLmEmbedder
from models.minilm.reference import MIN_COSINE, cosines, reference, require_model
from models.triton_server import TritonOptions, running_triton
from services.reasoning.embedder_inprocess import InProcessEmbedder
from services.reasoning.embedder_triton import TritonEmbedder

pytestmark = pytest.mark.asyncio(loop_scope="module")


class Embedder(Protocol):
    """The two under test."""

    async def embed(
        self, texts: Sequence[str], *, timeout_seconds: float = 30.0
    ) -> NDArray[np.float32]: ...

    async def close(self) -> None: ...


Make = Callable[[int], Embedder]


@pytest_asyncio.fixture(loop_scope="module", scope="module", params=["inprocess", "triton"])
async def make(
    request: pytest.FixtureRequest, tmp_path_factory: pytest.TempPathFactory
) -> AsyncIterator[Make]:
    """Makes an embedder of either kind, given how many texts may wait."""
    require_model()
    if request.param == "inprocess":
        model = MiniLmEmbedder()
        yield lambda waiting: InProcessEmbedder(model, max_waiting_texts=waiting)
        return
    options = TritonOptions(binary("TRITON_SERVER"), free_port())
    log_path = tmp_path_factory.mktemp("triton") / "triton.log"
    async with running_triton(options, log_path=log_path) as triton:
        yield lambda waiting: TritonEmbedder(triton.target, max_waiting_texts=waiting)


@pytest_asyncio.fixture(loop_scope="module")
async def embedder(make: Make) -> AsyncIterator[Embedder]:
    """An embedder with room for 4,096 texts."""
    embedder = make(4096)
    yield embedder
    await embedder.close()


async def test_it_gives_the_reference_vectors(embedder: Embedder) -> None:
    """Texts of every kind in one call have the vectors of the reference runtime."""
    expected = reference()
    vectors = await embedder.embed(expected.texts)
    assert cosines(vectors, expected.vectors).min() > MIN_COSINE


async def test_a_large_call_keeps_its_order(embedder: Embedder) -> None:
    """A call that takes several batches is answered in the order of its texts."""
    expected = reference()
    numbers = [number * 7 % 10 for number in range(150)]
    vectors = await embedder.embed([expected.texts[number] for number in numbers])
    assert cosines(vectors, expected.vectors[numbers]).min() > MIN_COSINE


async def test_concurrent_calls_keep_their_answers_apart(embedder: Embedder) -> None:
    """Many callers at once each get the vectors of their own texts."""
    expected = reference()
    calls = [[number % 10, number // 10][: 1 + number % 2] for number in range(100)]
    answers = await asyncio.gather(
        *(embedder.embed([expected.texts[number] for number in numbers]) for numbers in calls)
    )
    for numbers, vectors in zip(calls, answers, strict=True):
        assert cosines(vectors, expected.vectors[numbers]).min() > MIN_COSINE


async def test_a_lone_surrogate_is_refused(embedder: Embedder) -> None:
    """The error names the text and the character."""
    with pytest.raises(InvalidField) as raised:
        await embedder.embed(["good", "bad \ud800"])
    assert str(raised.value) == "texts[1]: has a lone surrogate at character 4"


async def test_more_texts_than_may_wait_are_refused(make: Make) -> None:
    """The error says how many wait and how many may; what waits is still answered."""
    embedder = make(5)
    first = asyncio.ensure_future(embedder.embed(["one", "two", "three"]))
    await asyncio.sleep(0)  # lets it begin
    with pytest.raises(QueueFull) as raised:
        await embedder.embed(["four", "five", "six"])
    assert str(raised.value) == "3 texts wait to be embedded; 3 more would pass the limit of 5."
    assert raised.value.retry_after_seconds == 1.0
    assert (await first).shape == (3, 384)
    assert (await embedder.embed(["four"] * 5)).shape == (5, 384)
    await embedder.close()


async def test_a_call_that_takes_too_long_is_given_up(embedder: Embedder) -> None:
    """The error names the limit, and the next call is answered."""
    with pytest.raises(DeadlineExceeded) as raised:
        await embedder.embed(["word " * 300] * 40, timeout_seconds=0.01)
    assert str(raised.value) == "The texts were not embedded within 0.01 seconds."
    assert raised.value.metadata == {"limit": "call"}
    assert (await embedder.embed(["next"])).shape == (1, 384)


async def test_the_callers_time_limit_counts(embedder: Embedder) -> None:
    """What is left of the caller's time shortens the call's own limit."""
    with deadline.limit(0.01), pytest.raises(DeadlineExceeded):
        await embedder.embed(["word " * 300] * 40, timeout_seconds=30)


async def test_a_closed_embedder_refuses_calls(make: Make) -> None:
    """Calls that come after the close say that it is shutting down."""
    embedder = make(4096)
    await embedder.close()
    with pytest.raises(ShuttingDown) as raised:
        await embedder.embed(["late"])
    assert str(raised.value) == "The embedder is shutting down."
