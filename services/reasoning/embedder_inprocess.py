"""Embeds in this process, in a thread of its own, so that the event loop goes on.

Texts that come while the thread is busy go in its next batch, whoever sent them:
nothing waits for company. Callers take turns text by text, so that a question
passes by the thousand texts of somebody's upload.
"""

import asyncio
from collections import deque
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextvars import Context
from dataclasses import dataclass, field
from typing import Final, Protocol

import numpy as np
from numpy.typing import NDArray

from meshkit.errors import ProviderFailed, ShuttingDown
from models.minilm.architecture import DIMENSIONS
from services.reasoning.embedding_admission import EmbeddingAdmission

_MAX_BATCH_TEXTS: Final = 32
# About 1,000 tokens, the work of 0.15 seconds on two cores: how long the next
# caller waits at most. The model gains nothing from more.
_MAX_BATCH_CHARACTERS: Final = 4_000


class TextModel(Protocol):
    """Computes vectors, and blocks meanwhile."""

    def embed(self, texts: Sequence[str]) -> NDArray[np.float32]:
        """Unit vectors `[len(texts), 384]`, in the order of `texts`."""
        ...


@dataclass(slots=True, eq=False)
class _Call:
    texts: Sequence[str]
    answer: asyncio.Future[NDArray[np.float32]]
    taken: int = 0
    rows: list[NDArray[np.float32]] = field(default_factory=list[NDArray[np.float32]])


class InProcessEmbedder:
    """Runs a model beside the event loop."""

    def __init__(self, model: TextModel, *, max_waiting_texts: int = 4096) -> None:
        """`max_waiting_texts`: without an answer, beyond which QueueFull is raised."""
        self._model: Final = model
        self._admission: Final = EmbeddingAdmission(max_waiting_texts)
        self._thread: Final = ThreadPoolExecutor(max_workers=1, thread_name_prefix="embedder")
        self._waiting: Final[deque[_Call]] = deque()
        self._working: asyncio.Task[None] | None = None

    async def embed(
        self, texts: Sequence[str], *, timeout_seconds: float = 120.0
    ) -> NDArray[np.float32]:
        """Unit vectors `[len(texts), 384]`, in the order of `texts`.

        Raises what EmbeddingAdmission.admit does, and ProviderFailed where the
        model cannot be run.
        """
        async with self._admission.admit(texts, timeout_seconds):
            if not texts:
                return np.empty((0, DIMENSIONS), np.float32)
            return await self._enqueue(texts)

    async def close(self) -> None:
        """Waits for the batch that is running; calls that still wait get ShuttingDown."""
        self._admission.close()
        _fail(self._waiting, ShuttingDown("The embedder is shutting down."))
        self._waiting.clear()
        if self._working is not None:
            await self._working
        self._thread.shutdown()

    def _enqueue(self, texts: Sequence[str]) -> asyncio.Future[NDArray[np.float32]]:
        loop = asyncio.get_running_loop()
        call = _Call(texts, loop.create_future())
        self._waiting.append(call)
        if self._working is None:
            # Begins after this turn of the loop: calls of the same turn go together.
            # In a context of its own, not in that of whoever happened to be first.
            self._working = loop.create_task(self._work(), context=Context())
        return call.answer

    async def _work(self) -> None:
        """Runs batches until nothing waits."""
        loop = asyncio.get_running_loop()
        while batch := self._take():
            calls = [call for call, _ in batch]
            texts = [text for _, text in batch]
            try:
                vectors = await loop.run_in_executor(self._thread, self._model.embed, texts)
            except Exception as error:
                failure = ProviderFailed(
                    f"Failed to embed texts: {error}", metadata={"provider": "inprocess"}
                )
                failure.__cause__ = error
                _fail(calls, failure)
                continue
            for call, vector in zip(calls, vectors, strict=True):
                _give(call, vector)
        self._working = None

    def _take(self) -> list[tuple[_Call, str]]:
        """The next batch: a text of each call in turn."""
        batch: list[tuple[_Call, str]] = []
        characters = 0
        while (
            self._waiting and len(batch) < _MAX_BATCH_TEXTS and characters < _MAX_BATCH_CHARACTERS
        ):
            call = self._waiting.popleft()
            if call.answer.done():  # its caller gave up, or the model failed
                continue
            text = call.texts[call.taken]
            call.taken += 1
            batch.append((call, text))
            characters += len(text)
            if call.taken < len(call.texts):
                self._waiting.append(call)
        return batch


def _fail(calls: Iterable[_Call], error: Exception) -> None:
    """Answers with `error` whoever still waits."""
    for call in calls:
        if not call.answer.done():
            call.answer.set_exception(error)


def _give(call: _Call, vector: NDArray[np.float32]) -> None:
    """Adds the next vector of `call`; the last one answers it."""
    call.rows.append(vector)
    if len(call.rows) == len(call.texts) and not call.answer.done():
        call.answer.set_result(np.stack(call.rows))
