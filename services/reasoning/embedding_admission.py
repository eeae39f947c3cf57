"""Which texts an embedder takes on, how many at a time, and for how long."""

import asyncio
from collections.abc import AsyncGenerator, Sequence
from contextlib import asynccontextmanager
from typing import Final

from meshkit import deadline
from meshkit.errors import DeadlineExceeded, InvalidField, QueueFull, ShuttingDown
from meshkit.time_limit import within
from models.minilm.texts import InvalidText, check_texts

_RETRY_SECONDS: Final = 1.0


class EmbeddingAdmission:
    """The door of one embedder: every call passes through `admit`."""

    def __init__(self, max_waiting_texts: int) -> None:
        """`max_waiting_texts`: that may be without an answer at the same time."""
        self._max_waiting_texts: Final = max_waiting_texts
        self._waiting_texts = 0
        self._calls = 0
        self._empty: Final = asyncio.Event()
        self._empty.set()
        self._closed = False

    @asynccontextmanager
    async def admit(self, texts: Sequence[str], timeout_seconds: float) -> AsyncGenerator[None]:
        """The time in which `texts` must be embedded.

        Raises ShuttingDown, InvalidField for a text that is not valid Unicode,
        QueueFull, and DeadlineExceeded where the block takes longer than
        `timeout_seconds` or what is left of the caller's time.
        """
        self.check_open()
        try:
            check_texts(texts)
        except InvalidText as error:
            raise InvalidField(f"texts[{error.index}]", error.description) from error
        if self._waiting_texts + len(texts) > self._max_waiting_texts:
            raise QueueFull(
                f"{self._waiting_texts} texts wait to be embedded; {len(texts)} more would"
                f" pass the limit of {self._max_waiting_texts}.",
                retry_after_seconds=_RETRY_SECONDS,
            )
        seconds = deadline.timeout_for(timeout_seconds)
        self._enter(len(texts))
        try:
            with within(seconds):
                yield
        except TimeoutError as error:
            raise DeadlineExceeded(
                f"The texts were not embedded within {seconds:.3g} seconds.",
                metadata={"limit": "call"},
            ) from error
        finally:
            self._leave(len(texts))

    def check_open(self) -> None:
        """Raises ShuttingDown once it is closed."""
        if self._closed:
            raise ShuttingDown("The embedder is shutting down.")

    def close(self) -> None:
        """Lets nobody in any more."""
        self._closed = True

    async def emptied(self) -> None:
        """Returns when nobody is inside; every call has a deadline, so it will."""
        await self._empty.wait()

    def _enter(self, texts: int) -> None:
        self._waiting_texts += texts
        self._calls += 1
        self._empty.clear()

    def _leave(self, texts: int) -> None:
        self._waiting_texts -= texts
        self._calls -= 1
        if self._calls == 0:
            self._empty.set()
