"""Answers as data: what comes back satisfies the caller's JSON Schema, or the call fails."""

import asyncio
import json
from collections.abc import AsyncGenerator, Mapping, Sequence
from contextlib import aclosing
from dataclasses import dataclass, replace
from typing import Any, Final

from google.protobuf import struct_pb2

from agentmesh.common.v1 import conversation_pb2
from meshkit.errors import MeshError
from meshkit.json_struct import to_mapping, to_struct
from schemas.json_schema import Schema, answer_schema
from services.reasoning.almost_json import NotJson, read_object
from services.reasoning.generation import Completion, Prompt, Provider, StopReason
from services.reasoning.model import ModelSpec
from services.reasoning.provider_failures import (
    Failure,
    TokensUsed,
    having_used,
    provider_failure,
)

_ASKED: Final = (
    "Answer with one JSON object and nothing else: no text around it, no code fence."
    " It must satisfy this JSON Schema:\n"
)
_AGAIN: Final = (
    "That is not what was asked for: {wrong}. Answer again, with the whole JSON object that"
    " satisfies the schema and nothing else."
)
# Who has the model keep to a schema, or fails.
_KNOW_SCHEMAS: Final = frozenset(("anthropic", "offline", "openai"))
# Of an answer that did not fit, so much is shown to the model again.
_MOST_SHOWN_AGAIN: Final = 32_000


@dataclass(frozen=True, slots=True)
class _Unfit:
    """What is wrong with an answer."""

    # For the model, which wrote it.
    wrong: str
    # For others: without what the answer says.
    clause: str


class StructuredProvider:
    """A Provider around another, whose answers satisfy `Prompt.output_schema`.

    What is almost JSON is repaired. A model whose answer does not fit is told why and asked
    once more: both calls count as one, with the tokens of both. A prompt without a schema,
    an answer that calls tools and one that the provider withheld pass as they are.
    """

    def __init__(self, inner: Provider, spec: ModelSpec, *, in_words: bool) -> None:
        """`in_words`: the model is told of the schema in a system message, too.

        `inner` gets the schema either way. Without the words it has to see to it.
        """
        self._inner: Final = inner
        self._spec: Final = spec
        self._in_words: Final = in_words

    async def complete(self, prompt: Prompt) -> Completion:
        """The answer with its `data`. Raises ProviderFailed where none fits."""
        if not prompt.output_schema:
            return await self._inner.complete(prompt)
        schema = answer_schema(prompt.output_schema)
        return await self._fit(prompt, schema, await self._inner.complete(self._asked(prompt)))

    def stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        """As `complete`. The pieces are those of the first answer, before any repair."""
        return self._stream(prompt) if prompt.output_schema else self._inner.stream(prompt)

    async def _stream(self, prompt: Prompt) -> AsyncGenerator[str | Completion]:
        schema = answer_schema(prompt.output_schema)
        async with aclosing(self._inner.stream(self._asked(prompt))) as updates:
            async for update in updates:
                if isinstance(update, Completion):
                    yield await self._fit(prompt, schema, update)
                else:
                    yield update

    async def _fit(self, prompt: Prompt, schema: Schema, first: Completion) -> Completion:
        """`first` with its data, or what the model says when it is asked again."""
        unfit = _with_data(first, schema)
        if isinstance(unfit, Completion):
            return unfit
        used = _used(first)
        try:
            second = await self._inner.complete(self._asked_again(prompt, first, unfit))
        except (MeshError, asyncio.CancelledError) as error:
            raise having_used(error, used) from error.__cause__
        used += _used(second)
        fit = _with_data(second, schema)
        if isinstance(fit, Completion):
            return replace(
                fit,
                input_tokens=used.input_tokens,
                output_tokens=used.output_tokens,
                cached_input_tokens=used.cached_input_tokens,
            )
        raise provider_failure(
            Failure.UNFIT_ANSWER,
            provider=self._spec.provider,
            model=self._spec.name,
            why=f"gave no answer that satisfies the output schema, asked twice: {fit.clause}",
            used=used,
        )

    def _asked(self, prompt: Prompt) -> Prompt:
        return replace(prompt, messages=_told(prompt)) if self._in_words else prompt

    def _asked_again(self, prompt: Prompt, first: Completion, unfit: _Unfit) -> Prompt:
        # In words as well: who serves a model may know nothing of schemas.
        messages = _told(prompt)
        said = _text(first)[:_MOST_SHOWN_AGAIN]
        if said.strip():
            messages.append(_message(conversation_pb2.ROLE_ASSISTANT, said))
        messages.append(_message(conversation_pb2.ROLE_USER, _AGAIN.format(wrong=unfit.wrong)))
        return replace(prompt, messages=messages)


def structured_providers(
    providers: Mapping[str, Provider], models: Sequence[ModelSpec]
) -> Mapping[str, Provider]:
    """The providers by the name of their model, each with structured output around it."""
    specs = {model.name: model for model in models}
    return {
        name: StructuredProvider(
            provider, specs[name], in_words=specs[name].provider not in _KNOW_SCHEMAS
        )
        for name, provider in providers.items()
    }


def _told(prompt: Prompt) -> list[conversation_pb2.Message]:
    """The messages, with what is asked for after the agent's own instructions."""
    messages = list(prompt.messages)
    at = 0
    while at < len(messages) and messages[at].role == conversation_pb2.ROLE_SYSTEM:
        at += 1
    asked = _message(conversation_pb2.ROLE_SYSTEM, _ASKED + prompt.output_schema)
    messages.insert(at, asked)
    return messages


def _with_data(completion: Completion, schema: Schema) -> Completion | _Unfit:
    """The completion with its data, or what is wrong with it."""
    if completion.message.tool_calls or completion.stop_reason is StopReason.REFUSED:
        return completion
    text = _text(completion)
    try:
        values = read_object(text) if completion.data is None else to_mapping(completion.data)
        data = to_struct(values)
    except (NotJson, ValueError) as error:
        if completion.stop_reason is StopReason.MAX_TOKENS:
            return _both("it was cut off at the most tokens that it may have; be briefer")
        return _both(f"it {error}")
    wrong = schema.wrong(values)
    if wrong:
        paths = ", ".join(each.path for each in wrong)
        return _Unfit("; ".join(map(str, wrong)), f"the schema is not satisfied at {paths}")
    return _as_data(completion, text, values, data)


def _as_data(
    completion: Completion, text: str, values: dict[str, Any], data: struct_pb2.Struct
) -> Completion:
    if _is_json(text):
        return replace(completion, data=data)
    message = _message(completion.message.role, json.dumps(values, ensure_ascii=False))
    return replace(completion, message=message, data=data)


def _both(clause: str) -> _Unfit:
    return _Unfit(clause, clause)


def _is_json(text: str) -> bool:
    try:
        json.loads(text)
    except ValueError:
        return False
    return True


def _text(completion: Completion) -> str:
    parts: Sequence[conversation_pb2.Part] = completion.message.parts
    return "".join(part.text for part in parts)


def _message(role: conversation_pb2.Role, text: str) -> conversation_pb2.Message:
    return conversation_pb2.Message(role=role, parts=[conversation_pb2.Part(text=text)])


def _used(completion: Completion) -> TokensUsed:
    return TokensUsed(
        completion.input_tokens, completion.output_tokens, completion.cached_input_tokens
    )
