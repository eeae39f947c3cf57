"""A text model on a Triton server, by the tensors of Triton's vLLM backend.

Decoupled models answer on streams alone, so that whole answers come on one too.
"""

import asyncio
from collections.abc import AsyncGenerator, AsyncIterator, Mapping
from contextlib import aclosing
from typing import Any, Final, cast

import grpc
from tritonclient.grpc.aio import InferenceServerClient
from tritonclient.utils import InferenceServerException

from meshkit import deadline
from meshkit.errors import DeadlineExceeded, DependencyUnavailable, MeshError
from services.reasoning.generation import Completion, Prompt
from services.reasoning.model import ModelSpec
from services.reasoning.provider_failures import Failure, having_used, provider_failure
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.triton_answer import BrokenAnswer, TritonAnswer
from services.reasoning.triton_failures import failure_of_message, failure_of_status
from services.reasoning.triton_tensors import NotTensors, Piece, read_piece, request_tensors

_CHECK_SECONDS: Final = 1.0
# Errors of a stream come with their status, and not as a text alone.
_HEADERS: Final = {"triton_grpc_error": "true"}
# grpc's own pauses before it connects again begin at a second and grow to minutes.
_CHANNEL: Final = [
    ("grpc.initial_reconnect_backoff_ms", 100),
    ("grpc.min_reconnect_backoff_ms", 100),
    ("grpc.max_reconnect_backoff_ms", 1000),
    # An answer comes in small pieces; no server may fill this process with one.
    ("grpc.max_receive_message_length", 16 * 1024 * 1024),
    ("grpc.max_send_message_length", -1),
]


class TritonProvider:
    """One model of one address. Make it inside the event loop."""

    def __init__(
        self,
        spec: ModelSpec,
        *,
        model: str,
        address: str,
        timeouts: ProviderTimeouts,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        """Connects when first asked.

        Args:
            spec: The model, as the mesh knows it.
            model: What Triton calls it.
            address: host:port of the gRPC endpoint, Triton's or a proxy's.
            timeouts: How long a call may take.
            headers: What is sent along with each call.
        """
        self._spec: Final = spec
        self._model: Final = model
        self._address: Final = address
        self._timeouts: Final = timeouts
        self._headers: Final = {**_HEADERS, **(headers or {})}
        # Any: the package has no types.
        self._client: Final = cast(Any, InferenceServerClient(address, channel_args=_CHANNEL))

    @property
    def name(self) -> str:
        """What health checks call it."""
        return f"triton:{self._spec.name}"

    async def complete(self, prompt: Prompt) -> Completion:
        """The model's next message."""
        async with aclosing(self._answer(prompt, streamed=False)) as updates:
            async for update in updates:
                if isinstance(update, Completion):
                    return update
        raise self._broken("ended before its end")

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The text in pieces as it appears, then everything as one Completion."""
        async with aclosing(self._answer(prompt, streamed=True)) as updates:
            async for update in updates:
                yield update

    async def check(self) -> None:
        """Raises DependencyUnavailable where the server or its model is not ready."""
        try:
            ready = await self._client.is_model_ready(self._model, client_timeout=_CHECK_SECONDS)
        except InferenceServerException as error:
            raise self._unavailable("does not answer") from error
        if not ready:
            raise self._unavailable(f"has no model {self._model} that is ready")

    async def close(self) -> None:
        """Gives the connection up, and with it calls that are out."""
        await self._client.close()

    async def _answer(self, prompt: Prompt, *, streamed: bool) -> AsyncGenerator[str | Completion]:
        most = min(prompt.max_output_tokens or self._most_output, self._most_output)
        answer = TritonAnswer(prompt, most)
        try:
            async with aclosing(self._pieces(prompt, streamed, most)) as pieces:
                async for piece in pieces:
                    if text := answer.add(piece):
                        yield text
                    if answer.too_long and not streamed:
                        raise self._broken(f"wrote more than the {most} tokens that it may")
                    if answer.too_long:
                        # What was heard of it counts.
                        answer.cut()
                        break
            if text := answer.finish():
                yield text
            yield answer.completion()
        except BrokenAnswer as error:
            raise having_used(self._broken(str(error)), answer.used()) from error
        except MeshError as error:
            if answer.begun:
                having_used(error, answer.used())
            raise

    @property
    def _most_output(self) -> int:
        return self._spec.max_output_tokens or self._spec.context_tokens

    async def _pieces(self, prompt: Prompt, streamed: bool, most: int) -> AsyncGenerator[Piece]:
        """What the server sends. Cancels the call when it is closed."""
        try:
            tensors = request_tensors(prompt, streamed=streamed, max_tokens=most)
        except NotTensors as error:
            raise self._failure(Failure.REJECTED, str(error)) from error
        whole = deadline.timeout_for(self._timeouts.whole_seconds)
        ends_at = asyncio.get_running_loop().time() + whole

        async def requests() -> AsyncIterator[Mapping[str, Any]]:
            yield {"model_name": self._model, "inputs": tensors}

        call = self._client.stream_infer(requests(), headers=self._headers)
        begun = False
        try:
            while (piece := await self._next(call, ends_at, begun=begun)) is not None:
                begun = True
                yield piece
        except TimeoutError as error:
            if whole < self._timeouts.whole_seconds:
                raise DeadlineExceeded(
                    f"The model {self._spec.name} did not answer in the time that was left.",
                    metadata={"limit": "call"},
                ) from error
            raise self._failure(Failure.TIMEOUT, f"took more than {whole:g} seconds") from error
        finally:
            call.cancel()

    async def _next(self, call: Any, ends_at: float, *, begun: bool) -> Piece | None:
        """The next piece; None after the last. TimeoutError at `ends_at` on the loop's clock."""
        silent_until = asyncio.get_running_loop().time() + self._timeouts.silence_seconds
        try:
            async with asyncio.timeout_at(min(silent_until, ends_at)):
                result, error = await anext(call)
            if error is not None:
                failure, why = failure_of_message(str(error.message()))
                raise self._failure(failure, why)
            return read_piece(result)
        except StopAsyncIteration:
            return None
        except TimeoutError as error:
            if ends_at <= silent_until:
                raise
            why = f"sent nothing for {self._timeouts.silence_seconds:g} seconds"
            raise self._failure(Failure.TIMEOUT, why) from error
        except grpc.aio.AioRpcError as error:
            failure, why = failure_of_status(error.code(), error.details() or "")
            if begun and failure is Failure.UNREACHABLE:
                raise self._broken("broke off its answer") from error
            raise self._failure(failure, why) from error
        except NotTensors as error:
            raise self._broken(f"sent an answer that {error}") from error

    def _broken(self, why: str) -> MeshError:
        return self._failure(Failure.BROKEN_ANSWER, why)

    def _failure(self, failure: Failure, why: str) -> MeshError:
        return provider_failure(failure, provider="triton", model=self._spec.name, why=why)

    def _unavailable(self, what: str) -> DependencyUnavailable:
        return DependencyUnavailable(
            f"Triton at {self._address} {what}.", metadata={"dependency": self.name}
        )
