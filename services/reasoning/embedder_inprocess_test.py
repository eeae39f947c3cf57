"""How the embedder in this process makes batches, on a model that waits for the test."""

import asyncio
import queue
from collections.abc import AsyncIterator, Sequence
from pathlib import Path
from typing import Final

import numpy as np
import pytest
import pytest_asyncio
from numpy.typing import NDArray

from meshkit.errors import ProviderFailed, ShuttingDown
from meshtest.eventually import eventually
from models.minilm.embedder import MiniLmEmbedder
from services.reasoning.embedder_inprocess import InProcessEmbedder


class SteppedModel:
    """Embeds a batch only when the test says so; a text's vector is full of its number."""

    def __init__(self) -> None:
        self.batches: Final[list[list[str]]] = []
        self._steps: Final[queue.Queue[Exception | None]] = queue.Queue()

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Blocks until `step`, for at most ten seconds."""
        self.batches.append(list(texts))
        failure = self._steps.get(timeout=10)
        if failure is not None:
            raise failure
        return np.array([[float(text)] * 384 for text in texts], np.float32)

    def step(self, times: int = 1, *, failure: Exception | None = None) -> None:
        """Lets the next batches pass, or fail."""
        for _ in range(times):
            self._steps.put(failure)

    async def begun(self, batches: int) -> None:
        """Returns when the model has begun that many batches."""
        await eventually(lambda: len(self.batches) == batches)


@pytest.fixture
def model() -> SteppedModel:
    """A model that waits for the test."""
    return SteppedModel()


@pytest_asyncio.fixture
async def embedder(model: SteppedModel) -> AsyncIterator[InProcessEmbedder]:
    """An embedder that runs the stepped model."""
    embedder = InProcessEmbedder(model)
    yield embedder
    model.step(100)
    await embedder.close()


def _begin(embedder: InProcessEmbedder, *texts: str) -> "asyncio.Future[NDArray[np.float32]]":
    return asyncio.ensure_future(embedder.embed(texts))


async def _first_column(call: "asyncio.Future[NDArray[np.float32]]") -> list[int]:
    return [int(number) for number in (await call)[:, 0]]


async def test_calls_that_come_during_a_batch_share_the_next_one(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """The first call runs at once; those that come meanwhile run together."""
    first = _begin(embedder, "1")
    await model.begun(1)
    others = [_begin(embedder, str(number)) for number in (2, 3, 4)]
    model.step(2)
    assert [await _first_column(call) for call in (first, *others)] == [[1], [2], [3], [4]]
    assert model.batches == [["1"], ["2", "3", "4"]]


async def test_calls_of_the_same_turn_run_together(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """Calls that are made together make one batch."""
    calls = [_begin(embedder, str(number)) for number in (1, 2)]
    model.step()
    assert [await _first_column(call) for call in calls] == [[1], [2]]
    assert model.batches == [["1", "2"]]


async def test_a_question_passes_by_an_upload(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """A single text that comes during a large call is in the next batch."""
    upload = _begin(embedder, *(str(number) for number in range(100)))
    await model.begun(1)
    question = _begin(embedder, "1000")
    await asyncio.sleep(0)  # lets it begin
    model.step(2)
    assert await _first_column(question) == [1000]
    assert not upload.done()
    model.step(10)
    assert await _first_column(upload) == list(range(100))
    assert [len(batch) for batch in model.batches] == [32, 32, 32, 5]
    assert "1000" in model.batches[1]


async def test_long_texts_make_short_batches(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """A batch ends with the text that brings it to 4,000 characters."""
    call = _begin(embedder, *("1" * 30 + " " * 1_500 for _ in range(4)))
    model.step(2)
    await call
    assert [len(batch) for batch in model.batches] == [3, 1]


async def test_texts_of_a_caller_that_left_are_not_computed(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """A cancelled call takes no part in later batches, and frees its place."""
    first = _begin(embedder, "1")
    await model.begun(1)
    left, stays = _begin(embedder, "2"), _begin(embedder, "3")
    await asyncio.sleep(0)  # lets them begin
    left.cancel()
    await asyncio.wait([left])
    model.step(2)
    assert [await _first_column(call) for call in (first, stays)] == [[1], [3]]
    assert model.batches == [["1"], ["3"]]


async def test_a_failure_of_the_model_is_that_of_its_batch(
    model: SteppedModel, embedder: InProcessEmbedder
) -> None:
    """Who was in the batch gets the error, once; the next call is answered."""
    model.step(failure=MemoryError("no room for 3 GB"))
    with pytest.raises(ProviderFailed) as raised:
        await embedder.embed([str(number) for number in range(40)])
    assert str(raised.value) == "Failed to embed texts: no room for 3 GB"
    assert raised.value.metadata == {"provider": "inprocess"}
    assert isinstance(raised.value.__cause__, MemoryError)
    model.step()
    assert await _first_column(_begin(embedder, "7")) == [7]
    assert [len(batch) for batch in model.batches] == [32, 1]


async def test_a_missing_model_is_a_failure_of_the_provider(tmp_path: Path) -> None:
    """The caller learns which file is missing."""
    embedder = InProcessEmbedder(MiniLmEmbedder(tmp_path))
    with pytest.raises(ProviderFailed) as raised:
        await embedder.embed(["text"])
    assert str(raised.value) == (
        f"Failed to embed texts: {tmp_path}/model.onnx: no such model; export_onnx writes it"
    )
    await embedder.close()


async def test_a_close_lets_the_running_batch_finish(model: SteppedModel) -> None:
    """What runs is answered; what waits gets ShuttingDown."""
    embedder = InProcessEmbedder(model)
    running = _begin(embedder, "1")
    await model.begun(1)
    waiting = _begin(embedder, "2")
    await asyncio.sleep(0)  # lets it begin
    closing = asyncio.ensure_future(embedder.close())
    with pytest.raises(ShuttingDown) as raised:
        await waiting
    assert str(raised.value) == "The embedder is shutting down."
    assert not closing.done()
    model.step()
    assert await _first_column(running) == [1]
    await closing
    assert model.batches == [["1"]]
