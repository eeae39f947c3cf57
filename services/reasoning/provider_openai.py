"""A model behind an API like OpenAI's, by OpenAI's own SDK: vLLM's and Ollama's among them.

Import it lazily: the SDK takes time and memory that not every process needs.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass
from typing import Any, Final, cast
from urllib.parse import urlsplit

import httpx2
import openai

from agentmesh.common.v1 import conversation_pb2
from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.frozen import frozen
from meshkit.time_limit import within
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.http_client import HttpClient, UnreadableAnswer
from services.reasoning.http_failures import retry_after_seconds, status_failure
from services.reasoning.model import ModelSpec
from services.reasoning.openai_answer import BrokenAnswer, OpenAIAnswer
from services.reasoning.openai_calls import Chunks, OpenAICalls
from services.reasoning.openai_dialect import Dialect
from services.reasoning.openai_request import NotSendable, chat_request
from services.reasoning.output_limit import most_output_tokens
from services.reasoning.provider_failures import Failure, having_used, provider_failure
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.stop_texts import StopTexts
from services.reasoning.token_estimate import prompt_tokens
from services.reasoning.tool_names import ToolNames

OPENAI_ADDRESS: Final = "https://api.openai.com/v1"
# All that is sent of the SDK's own headers. The others tell of this machine, or come from
# its environment, keys included.
_HEADERS: Final = frozenset(("Accept", "Content-Type", "User-Agent"))
_SDK_HEADERS: Final = ("x-stainless-retry-count", "x-stainless-read-timeout")
# Words for programs, that hold nothing of a prompt or a key.
_CODE: Final = re.compile(r"[a-z][\w.\[\]-]{0,63}", re.ASCII)
# Refusals of what was asked, not of how.
_WITHHELD: Final = ("content_filter", "content_policy_violation")
# Over a limit that does not pass with time.
_NO_CREDIT: Final = "insufficient_quota"
_REFUSALS_OF_A_PARAMETER: Final = (400, 422)


@frozen
class _Sent:
    """What came of a request that was accepted."""

    answer: OpenAIAnswer
    # The content, or the stream of chunks.
    content: Any
    # For a server that takes no stop texts.
    stops: StopTexts | None


@dataclass(slots=True)
class _Attempt:
    """A call under way; what has been said, as soon as there is something."""

    answer: OpenAIAnswer | None = None


class OpenAIProvider:
    """Chat completions. One request a call: who retries is somebody else.

    Only a request that was refused for a parameter that the server does not know is sent
    again, without it; what was learned is kept.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        model: str,
        address: str,
        key: str,
        http: HttpClient,
        timeouts: ProviderTimeouts,
        clock: Clock,
    ) -> None:
        """A provider of one model.

        Args:
            spec: The model, as the mesh knows it.
            model: What the server calls it.
            address: The base URL, such as `http://127.0.0.1:8000/v1`.
            key: Empty for servers that want none.
            http: The client of the process; not closed here.
            timeouts: How long a call may take.
            clock: For dates in answers.
        """
        self._spec: Final = spec
        self._model: Final = model
        self._timeouts: Final = timeouts
        self._clock: Final = clock
        # The SDK takes what it is not given from the environment of the process.
        client = openai.AsyncOpenAI(
            api_key="",
            admin_api_key="",
            organization="",
            project="",
            webhook_secret="",
            base_url=address,
            timeout=httpx2.Timeout(
                timeouts.silence_seconds,
                connect=timeouts.connect_seconds,
                pool=timeouts.connect_seconds,
            ),
            max_retries=0,
            http_client=http,
            _enforce_credentials=False,
        )
        dropped = [name for name in client.default_headers if name not in _HEADERS]
        headers: dict[str, str | openai.Omit] = {
            **dict.fromkeys((*dropped, *_SDK_HEADERS), openai.Omit()),
            "Authorization": f"Bearer {key}" if key else openai.Omit(),
        }
        self._calls: Final = OpenAICalls(client, http, headers)
        # The older name is the one that other servers know.
        is_openai = urlsplit(address).hostname == urlsplit(OPENAI_ADDRESS).hostname
        self._dialect = Dialect("max_completion_tokens" if is_openai else "max_tokens")

    async def complete(self, prompt: Prompt) -> Completion:
        """The model's next message. Fails as provider_failures.py says."""
        with self._told() as attempt:
            with within(self._timeouts.whole_seconds):
                sent = await self._send(prompt, streamed=False)
            if isinstance(sent, Completion):
                return sent
            attempt.answer = sent.answer
            text = sent.answer.add_whole(sent.content)
            if sent.stops is not None:
                sent.stops.feed(text)
                _end_at_stop_text(sent.answer, sent.stops)
            return sent.answer.completion()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The text in pieces, then everything. Fails as provider_failures.py says."""
        ends = asyncio.get_running_loop().time() + self._timeouts.whole_seconds
        with self._told() as attempt:
            with within(self._timeouts.whole_seconds):
                sent = await self._send(prompt, streamed=True)
            if isinstance(sent, Completion):
                yield sent
                return
            attempt.answer = sent.answer
            stream = cast(Chunks, sent.content)
            stops = sent.stops
            async with stream:
                # The clock stands for whoever takes the pieces, not around them.
                while (chunk := await _next(stream, ends)) is not None:
                    text = sent.answer.add_chunk(chunk)
                    text = text if stops is None else stops.feed(text)
                    if text:
                        yield text
                    if sent.answer.too_long:
                        sent.answer.cut(StopReason.MAX_TOKENS)
                        break
                    if stops is not None and stops.stopped:
                        break
            if stops is not None:
                if rest := stops.finish():
                    yield rest
                _end_at_stop_text(sent.answer, stops)
            yield sent.answer.completion()

    async def _send(self, prompt: Prompt, *, streamed: bool) -> _Sent | Completion:
        """What the server accepted; a whole answer where it withheld one."""
        names = ToolNames([tool.name for tool in prompt.tools])
        dialect, lasting = self._dialect, True
        while True:
            request = chat_request(
                prompt,
                spec=self._spec,
                model=self._model,
                names=names,
                dialect=dialect,
                streamed=streamed,
            )
            try:
                content = await (self._calls.stream if streamed else self._calls.whole)(request)
            except openai.APIStatusError as error:
                if error.code in _WITHHELD:
                    return _withheld(prompt)
                if error.status_code not in _REFUSALS_OF_A_PARAMETER:
                    raise
                # Each time there is less to refuse.
                after = dialect.after(error.body, request)
                if after is None:
                    raise
                lasting = lasting and not Dialect.is_of_one_request(error.body)
                dialect = after
                continue
            if lasting:
                self._dialect = dialect
            return _Sent(
                OpenAIAnswer(
                    prompt, names, most_output_tokens=most_output_tokens(prompt, self._spec)
                ),
                content,
                StopTexts(prompt.stop) if prompt.stop and not dialect.takes("stop") else None,
            )

    @contextmanager
    def _told(self) -> Generator[_Attempt]:
        """Raises what goes wrong in the one way in which providers fail, with what was used."""
        attempt = _Attempt()
        try:
            yield attempt
        except Exception as error:
            failure = self._failure(error)
            if failure is None:
                raise
            if attempt.answer is not None:
                having_used(failure, attempt.answer.used())
            # What the SDK says may hold what was sent.
            raise failure from None

    def _failure(self, error: Exception) -> MeshError | None:
        match error:
            case openai.APITimeoutError():
                return self._timed_out(error)
            case openai.APIStatusError():
                return self._refused(error)
            case openai.APIConnectionError():
                return self._failed(Failure.UNREACHABLE, "cannot be reached")
            case openai.APIError():
                return self._broke_off(error)
            case TimeoutError():
                seconds = self._timeouts.whole_seconds
                return self._failed(Failure.TIMEOUT, f"took more than {seconds:g} s")
            case NotSendable():
                return self._failed(Failure.REJECTED, str(error))
            case UnreadableAnswer() | BrokenAnswer():
                return self._failed(Failure.BROKEN_ANSWER, str(error))
            case openai.OpenAIError() | ValueError() | RecursionError():
                return self._failed(Failure.BROKEN_ANSWER, "sent what is no answer")
            case _:
                return None

    def _timed_out(self, error: openai.APITimeoutError) -> MeshError:
        match error.__cause__:
            case httpx2.ConnectTimeout():
                seconds = self._timeouts.connect_seconds
                return self._failed(
                    Failure.UNREACHABLE, f"could not be reached within {seconds:g} s"
                )
            case httpx2.PoolTimeout():
                return self._failed(Failure.OVERLOADED, "has too many calls under way from here")
            case _:
                seconds = self._timeouts.silence_seconds
                return self._failed(Failure.TIMEOUT, f"said nothing for {seconds:g} s")

    def _refused(self, error: openai.APIStatusError) -> MeshError:
        failure = status_failure(error.status_code)
        if error.code == _NO_CREDIT:
            failure = Failure.UNAUTHORISED
        told: tuple[object, ...] = (error.code, error.param)
        codes = [each for each in told if isinstance(each, str) and _CODE.fullmatch(each)]
        words = f" ({': '.join(codes)})" if codes else ""
        return self._failed(
            failure,
            f"answered {error.status_code}{words}",
            retry_after_seconds(error.response.headers, self._clock.now()),
        )

    def _broke_off(self, error: openai.APIError) -> MeshError:
        """What a server says within a stream."""
        code = error.code or ""
        words = f" ({code})" if _CODE.fullmatch(code) or code.isdecimal() else ""
        failure = Failure.SERVER_ERROR
        if code.isdecimal() and len(code) == len("429"):
            failure = status_failure(int(code))
        elif code == "rate_limit_exceeded":
            failure = Failure.RATE_LIMITED
        return self._failed(failure, f"failed in the middle of its answer{words}")

    def _failed(
        self, failure: Failure, why: str, retry_after_seconds: float | None = None
    ) -> MeshError:
        return provider_failure(
            failure,
            provider=self._spec.provider,
            model=self._spec.name,
            why=why,
            retry_after_seconds=retry_after_seconds,
        )


async def _next(stream: Chunks, ends: float) -> object | None:
    with within(ends - asyncio.get_running_loop().time()):
        return await anext(stream, None)


def _end_at_stop_text(answer: OpenAIAnswer, stops: StopTexts) -> None:
    if stops.stopped:
        answer.cut(StopReason.STOP_TEXT, stops.text)


def _withheld(prompt: Prompt) -> Completion:
    """A prompt that the server's filter did not let through."""
    return Completion(
        conversation_pb2.Message(role=conversation_pb2.ROLE_ASSISTANT),
        StopReason.REFUSED,
        input_tokens=prompt_tokens(prompt.messages, prompt.tools),
        output_tokens=0,
    )
