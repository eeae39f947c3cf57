"""A model behind Anthropic's Messages API, by Anthropic's own SDK.

Import it lazily: the SDK takes time and memory that not every process needs.
"""

import asyncio
import re
from collections.abc import AsyncGenerator, Generator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from typing import Any, Final, cast

import anthropic
import httpx2

from meshkit.clock import Clock
from meshkit.errors import MeshError
from meshkit.time_limit import within
from schemas.json_schema import answer_schema
from services.reasoning.anthropic_answer import AnthropicAnswer, BrokenAnswer
from services.reasoning.anthropic_request import (
    AnswerForm,
    AnswerShape,
    NotSendable,
    messages_request,
    unsent_stops,
)
from services.reasoning.anthropic_schema import native_schema
from services.reasoning.generation import Completion, Prompt, StopReason
from services.reasoning.http_client import UnreadableAnswer
from services.reasoning.http_failures import retry_after_seconds, status_failure
from services.reasoning.model import ModelSpec
from services.reasoning.output_limit import most_output_tokens
from services.reasoning.provider_failures import Failure, TokensUsed, provider_failure
from services.reasoning.provider_timeouts import ProviderTimeouts
from services.reasoning.stop_texts import StopTexts
from services.reasoning.tool_names import ToolNames

ANTHROPIC_ADDRESS: Final = "https://api.anthropic.com"
_PATH: Final = "/v1/messages"
# All that is sent of the SDK's own headers. The others tell of this machine, or come from
# its environment, keys included.
_HEADERS: Final = frozenset(("Accept", "Content-Type", "User-Agent", "anthropic-version"))
_SDK_HEADERS: Final = (
    "x-stainless-read-timeout",
    "x-stainless-retry-count",
    "x-stainless-timeout",
)
# Errors by their types, also those within a stream.
_FAILURES: Final = {
    "api_error": Failure.SERVER_ERROR,
    "authentication_error": Failure.UNAUTHORISED,
    "billing_error": Failure.UNAUTHORISED,
    "invalid_request_error": Failure.REJECTED,
    "not_found_error": Failure.NO_MODEL,
    "overloaded_error": Failure.OVERLOADED,
    "permission_error": Failure.UNAUTHORISED,
    "rate_limit_error": Failure.RATE_LIMITED,
    "request_too_large": Failure.REJECTED,
    "timeout_error": Failure.TIMEOUT,
}
_OK: Final = 200
_REFUSED: Final = 400
# What not every model takes, and how a refusal names it.
_SCHEMAS: Final = re.compile(r"output_config|output_format|structured output", re.IGNORECASE)
_FORCED: Final = re.compile(r"tool_choice|forces? tool use", re.IGNORECASE)


@dataclass(frozen=True, slots=True)
class _Taken:
    """What the model takes, as far as is known."""

    schemas: bool = True
    # Models that think before they speak cannot be made to call a tool.
    forced_calls: bool = True


class AnthropicProvider:
    """The Messages API. One request a call: who retries is somebody else.

    Only a request that was refused for what this model does not take is sent again, without
    it; what was learned is kept.
    """

    def __init__(
        self,
        spec: ModelSpec,
        *,
        model: str,
        address: str,
        key: str,
        http: httpx2.AsyncClient,
        timeouts: ProviderTimeouts,
        clock: Clock,
    ) -> None:
        """A provider of one model.

        Args:
            spec: The model, as the mesh knows it.
            model: What the API calls it.
            address: The base URL, such as ANTHROPIC_ADDRESS.
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
        self._client: Final = anthropic.AsyncAnthropic(
            api_key="",
            webhook_key="",
            base_url=address,
            timeout=httpx2.Timeout(
                timeouts.silence_seconds,
                connect=timeouts.connect_seconds,
                pool=timeouts.connect_seconds,
            ),
            max_retries=0,
            http_client=http,
            open_telemetry=False,
        )
        dropped = [name for name in self._client.default_headers if name not in _HEADERS]
        self._headers: Final[dict[str, str | anthropic.Omit]] = {
            **dict.fromkeys((*dropped, *_SDK_HEADERS), anthropic.Omit()),
            "Authorization": f"Bearer {key}" if key else anthropic.Omit(),
        }
        self._takes = _Taken()

    async def complete(self, prompt: Prompt) -> Completion:
        """The model's next message. Fails as provider_failures.py says."""
        answer = self._answer(prompt)
        with self._told(answer):
            with within(self._timeouts.whole_seconds):
                content = await self._send(prompt, streamed=False)
            text = answer.add_whole(content)
            if stops := _stops(prompt):
                stops.feed(text)
                _end_at_stop_text(answer, stops)
            return answer.completion()

    async def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """The text in pieces, then everything. Fails as provider_failures.py says."""
        ends = asyncio.get_running_loop().time() + self._timeouts.whole_seconds
        answer, stops = self._answer(prompt), _stops(prompt)
        with self._told(answer):
            with within(self._timeouts.whole_seconds):
                content = await self._send(prompt, streamed=True)
            stream = cast(anthropic.AsyncStream[object], content)
            async with stream:
                # The clock stands for whoever takes the pieces, not around them.
                while (event := await _next(stream, ends)) is not None:
                    text = answer.add_event(event)
                    text = text if stops is None else stops.feed(text)
                    if text:
                        yield text
                    if answer.too_long:
                        answer.cut(StopReason.MAX_TOKENS, stops.text if stops else None)
                        break
                    if stops is not None and stops.stopped:
                        break
            if stops is not None and not answer.too_long:
                if rest := stops.finish():
                    yield rest
                _end_at_stop_text(answer, stops)
            yield answer.completion()

    def _answer(self, prompt: Prompt) -> AnthropicAnswer:
        return AnthropicAnswer(
            prompt,
            self._names(prompt),
            most_output_tokens=most_output_tokens(prompt, self._spec),
        )

    def _names(self, prompt: Prompt) -> ToolNames:
        return ToolNames([tool.name for tool in prompt.tools])

    async def _send(self, prompt: Prompt, *, streamed: bool) -> object:
        """The content, or the stream of events, of a request that was accepted."""
        takes = self._takes
        while True:
            request = messages_request(
                prompt,
                model=self._model,
                names=self._names(prompt),
                most_output_tokens=most_output_tokens(prompt, self._spec),
                shape=_shape(prompt, takes),
                may_force=takes.forced_calls,
                streamed=streamed,
            )
            try:
                content = await self._post(request, streamed=streamed)
            except anthropic.APIStatusError as error:
                # Each time there is less to refuse.
                if (after := _after(error, takes, request)) is None:
                    raise
                takes = after
                continue
            self._takes = takes
            return content

    async def _post(self, request: dict[str, Any], *, streamed: bool) -> object:
        # As plain values: what servers send is checked where it is read, and not modelled twice.
        return await self._client.post(
            _PATH,
            cast_to=object,
            body=request,
            options={"headers": self._headers},
            stream=streamed,
            stream_cls=anthropic.AsyncStream[object],
        )

    @contextmanager
    def _told(self, answer: AnthropicAnswer) -> Generator[None]:
        """Raises what goes wrong in the one way in which providers fail."""
        try:
            yield
        except anthropic.APITimeoutError as error:
            raise self._timed_out(error, answer.used) from None
        except anthropic.APIStatusError as error:
            raise self._refused(error, answer.used) from None
        except anthropic.APIConnectionError as error:
            if isinstance(error.__cause__, UnreadableAnswer):
                raise self._failed(Failure.BROKEN_ANSWER, str(error.__cause__)) from None
            raise self._failed(Failure.UNREACHABLE, "cannot be reached") from None
        except TimeoutError:
            seconds = self._timeouts.whole_seconds
            raise self._failed(
                Failure.TIMEOUT, f"took more than {seconds:g} s", answer.used
            ) from None
        except NotSendable as error:
            raise self._failed(Failure.REJECTED, str(error)) from None
        except httpx2.TimeoutException:
            # Within a stream.
            seconds = self._timeouts.silence_seconds
            raise self._failed(
                Failure.TIMEOUT, f"said nothing for {seconds:g} s", answer.used
            ) from None
        except (UnreadableAnswer, BrokenAnswer) as error:
            raise self._failed(Failure.BROKEN_ANSWER, str(error), answer.used) from None
        except (anthropic.AnthropicError, httpx2.HTTPError, ValueError, RecursionError):
            raise self._failed(
                Failure.BROKEN_ANSWER, "sent what is no answer", answer.used
            ) from None

    def _timed_out(self, error: anthropic.APITimeoutError, used: TokensUsed | None) -> MeshError:
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
                return self._failed(Failure.TIMEOUT, f"said nothing for {seconds:g} s", used)

    def _refused(self, error: anthropic.APIStatusError, used: TokensUsed | None) -> MeshError:
        kind = _kind(error)
        words = f" ({kind})" if kind else ""
        if error.status_code == _OK:
            return self._failed(
                _FAILURES.get(kind, Failure.SERVER_ERROR),
                f"failed in the middle of its answer{words}",
                used,
            )
        failure = status_failure(error.status_code)
        if failure is Failure.REJECTED:
            failure = _FAILURES.get(kind, failure)
        return self._failed(
            failure,
            f"answered {error.status_code}{words}",
            retry_after=retry_after_seconds(error.response.headers, self._clock.now()),
        )

    def _failed(
        self,
        failure: Failure,
        why: str,
        used: TokensUsed | None = None,
        *,
        retry_after: float | None = None,
    ) -> MeshError:
        return provider_failure(
            failure,
            provider=self._spec.provider,
            model=self._spec.name,
            why=why,
            retry_after_seconds=retry_after,
            used=used,
        )


async def _next(stream: anthropic.AsyncStream[object], ends: float) -> object | None:
    with within(ends - asyncio.get_running_loop().time()):
        return await anext(stream, None)


def _shape(prompt: Prompt, takes: _Taken) -> AnswerShape:
    if not prompt.output_schema:
        return AnswerShape()
    native = native_schema(prompt.output_schema) if takes.schemas else None
    if native is not None:
        return AnswerShape(AnswerForm.NATIVE, native)
    schema = dict(answer_schema(prompt.output_schema).schema)
    return AnswerShape(AnswerForm.TOOL, {"type": "object", **schema})


def _after(
    error: anthropic.APIStatusError, takes: _Taken, request: dict[str, Any]
) -> _Taken | None:
    """What the model takes, going by its refusal; None where that was for something else."""
    if error.status_code != _REFUSED:
        return None
    if "output_config" in request and _SCHEMAS.search(error.message):
        return replace(takes, schemas=False)
    if takes.forced_calls and "tool_choice" in request and _FORCED.search(error.message):
        return replace(takes, forced_calls=False)
    return None


def _stops(prompt: Prompt) -> StopTexts | None:
    stops = unsent_stops(prompt)
    return StopTexts(stops) if stops else None


def _end_at_stop_text(answer: AnthropicAnswer, stops: StopTexts) -> None:
    if stops.stopped:
        answer.cut(StopReason.STOP_TEXT, stops.text)


def _kind(error: anthropic.APIStatusError) -> str:
    """The error's type, where it is one that is known: other words might be anything."""
    body = error.body
    if isinstance(body, dict):
        told: Any = cast(dict[str, Any], body).get("error")
        if isinstance(told, dict):
            kind = cast(dict[str, Any], told).get("type")
            return kind if isinstance(kind, str) and kind in _FAILURES else ""
    return ""
