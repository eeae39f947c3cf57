"""The reasoning contract to its domain and back; says which field is wrong."""

import re
from collections.abc import Mapping, Sequence
from functools import lru_cache
from typing import Final

from agentmesh.common.v1 import conversation_pb2, tier_pb2, usage_pb2
from agentmesh.reasoning.v1 import model_pb2
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import identity, names
from meshkit.constants import SERVICE_CALLER
from meshkit.errors import InvalidField, MeshError, TooLarge, to_status
from schemas.json_schema import answer_schema, check_arguments
from services.reasoning import model_check
from services.reasoning.embedding import Embeddings
from services.reasoning.endpoint_state import Breaker, EndpointState
from services.reasoning.generation import Generation, GenerationRequest, Prompt, Spending
from services.reasoning.model import Kind, ModelSpec, State, Tier
from services.reasoning.model_check import Checked
from services.reasoning.price_list import Price

_MOST_CONVERSATION_BYTES: Final = 2 * 1024 * 1024
_MOST_EMBEDDING_BYTES: Final = 1024 * 1024
_MOST_TEXTS: Final = 256
_MOST_TOOLS: Final = 256
_MOST_STOPS: Final = 8
_MOST_KEY_CHARACTERS: Final = 200
_HOTTEST: Final = 2.0
_ROLES: Final = frozenset(conversation_pb2.Role.values()) - {conversation_pb2.ROLE_UNSPECIFIED}
_MAX_MICROS: Final = 9_000_000_000_000_000
_NO_BUDGET: Final = pb.TaskBudget()
_NO_BREAKER: Final = model_pb2.BREAKER_STATE_UNSPECIFIED
# As the governor has it: under a lease it hears of a call when that is paid already, and what
# it refuses then is charged to nobody.
_WORD: Final = re.compile(r"[^\s\x00-\x1f\x7f-\x9f]{0,200}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f-\x9f]")


def generation_request(
    request: pb.GenerateRequest, *, by: str, within: str = ""
) -> GenerationRequest:
    """What Generate asks for. `within` is the path of `request`, as in `request.`.

    `by` is who made the call, or the batch that it came in: only services know
    which calls are the same, so that anybody else's `spend_key` is left out.

    Raises InvalidField with the exact path, and TooLarge.
    """
    _check_messages(request, within)
    _check_tools(request.tools, within)
    return GenerationRequest(
        prompt=_prompt(request, within),
        model=request.model,
        tier=tier(request.tier, field=f"{within}tier"),
        spending=_spending(request, by, within),
    )


def generation_response(generation: Generation) -> pb.GenerateResponse:
    """A generation as Generate answers it."""
    completion = generation.completion
    response = pb.GenerateResponse(
        stop_reason=completion.stop_reason.value,
        model=generation.model.name,
        tier=generation.tier.value,
        degradations=generation.degradations,
        citations=completion.citations,
        data=completion.data,
    )
    # Copied, never given to a constructor: that would encode it and read it again.
    response.message.CopyFrom(completion.message)
    usage = response.usage
    usage.input_tokens = completion.input_tokens
    usage.output_tokens = completion.output_tokens
    usage.cached_input_tokens = completion.cached_input_tokens
    usage.cost_micros = generation.cost_micros
    usage.model_calls = 1
    return response


def stream_response(update: str | Generation) -> pb.GenerateStreamResponse:
    """A piece of text, or the whole, as GenerateStream answers it."""
    if isinstance(update, Generation):
        return pb.GenerateStreamResponse(response=generation_response(update))
    return pb.GenerateStreamResponse(text_delta=update)


def batch_result(index: int, outcome: pb.GenerateResponse | MeshError) -> pb.BatchGenerateResult:
    """What became of an item, as BatchGenerate answers it."""
    if isinstance(outcome, MeshError):
        return pb.BatchGenerateResult(index=index, error=to_status(outcome))
    result = pb.BatchGenerateResult(index=index)
    result.response.CopyFrom(outcome)
    return result


def texts(request: pb.EmbedRequest) -> Sequence[str]:
    """The texts that Embed is given, checked."""
    count = len(request.texts)
    if not 1 <= count <= _MOST_TEXTS:
        raise InvalidField("texts", f"must hold 1 to {_MOST_TEXTS} texts, not {count}")
    size = request.ByteSize()
    if size > _MOST_EMBEDDING_BYTES:
        raise _too_large("The texts", size, _MOST_EMBEDDING_BYTES)
    return request.texts


def embed_response(embeddings: Embeddings) -> pb.EmbedResponse:
    """Embeddings as Embed answers them."""
    return pb.EmbedResponse(
        embeddings=[pb.Embedding(values=vector) for vector in embeddings.vectors],
        model=embeddings.model,
        usage=usage_pb2.Usage(input_tokens=embeddings.input_tokens, model_calls=1),
    )


def model(
    spec: ModelSpec, of_tier: Tier | None, prices: Mapping[str, Price], endpoint: EndpointState
) -> model_pb2.Model:
    """A model as ListModels shows it."""
    price = prices.get(spec.name, Price(0, 0, 0))
    state, reason = _state(spec, endpoint)
    embeds = spec.kind is Kind.EMBEDDER
    return model_pb2.Model(
        name=spec.name,
        provider=spec.provider,
        kind=model_pb2.MODEL_KIND_EMBEDDER if embeds else model_pb2.MODEL_KIND_GENERATOR,
        tier=of_tier.value if of_tier else tier_pb2.MODEL_TIER_UNSPECIFIED,
        context_tokens=spec.context_tokens,
        input_price_micros_per_million=price.input,
        output_price_micros_per_million=price.output,
        cached_input_price_micros_per_million=price.cached_input,
        max_output_tokens=spec.max_output_tokens,
        state=state.value,
        state_reason=reason,
        breaker=endpoint.breaker.value if endpoint.breaker else _NO_BREAKER,
        dimensions=spec.dimensions,
        description=spec.description,
    )


def check_spending(request: pb.CheckModelRequest) -> Spending:
    """Who pays for a check. Raises InvalidField where no model is named."""
    if not request.model:
        raise InvalidField("model", "must be the name of a model")
    who = identity.current()
    return Spending(tenant=who.tenant, caller=who.caller, task_type=model_check.TASK_TYPE)


def check_response(checked: Checked, checked_model: model_pb2.Model) -> pb.CheckModelResponse:
    """What a check found out, as CheckModel answers it."""
    response = pb.CheckModelResponse(
        model=checked_model,
        usage=usage_pb2.Usage(
            input_tokens=checked.input_tokens,
            output_tokens=checked.output_tokens,
            cost_micros=checked.cost_micros,
            model_calls=0 if checked.error else 1,
        ),
        error=to_status(checked.error) if checked.error else None,
    )
    response.latency.FromMicroseconds(round(checked.latency_seconds * 1e6))
    if checked.first_token_seconds is not None:
        response.first_token_latency.FromMicroseconds(round(checked.first_token_seconds * 1e6))
    return response


def tier(given: int, *, field: str) -> Tier | None:
    """The tier that a request names; None where it names none."""
    if given == tier_pb2.MODEL_TIER_UNSPECIFIED:
        return None
    try:
        return Tier(given)
    except ValueError:
        raise InvalidField(
            field, f"must be FAST, BALANCED, POWERFUL or unset, not {given}"
        ) from None


def _state(spec: ModelSpec, endpoint: EndpointState) -> tuple[State, str]:
    """Whether a model can be used now, and why not, or why less."""
    if not spec.callable:
        return State.NOT_CONFIGURED, endpoint.reason or spec.description
    if endpoint.breaker is Breaker.OPEN:
        return State.UNAVAILABLE, endpoint.reason or "Its breaker is open."
    if endpoint.unavailable:
        return State.UNAVAILABLE, endpoint.reason
    return State.READY, endpoint.reason


def _check_messages(request: pb.GenerateRequest, within: str) -> None:
    if not request.messages:
        raise InvalidField(f"{within}messages", "must hold at least one message")
    # The request is the cheaper thing to measure, and seldom too large.
    if request.ByteSize() > _MOST_CONVERSATION_BYTES:
        size = sum(message.ByteSize() for message in request.messages)
        if size > _MOST_CONVERSATION_BYTES:
            raise _too_large("The conversation", size, _MOST_CONVERSATION_BYTES)
    for index, message in enumerate(request.messages):
        wrong = _wrong_with(message)
        if wrong is not None:
            field, description = wrong
            raise InvalidField(f"{within}messages[{index}].{field}", description)


def _wrong_with(message: conversation_pb2.Message) -> tuple[str, str] | None:
    """The field of `message` that is wrong, and what would be right."""
    role = message.role
    if role not in _ROLES:
        return "role", "must be SYSTEM, USER, ASSISTANT or TOOL"
    if role == conversation_pb2.ROLE_TOOL:
        if not message.HasField("tool_result"):
            return "tool_result", "must be set in a message with ROLE_TOOL"
        if not message.tool_result.call_id:
            return "tool_result.call_id", "must name the tool call that this answers"
        return None
    if message.HasField("tool_result"):
        return "tool_result", "must be set only in a message with ROLE_TOOL"
    if role == conversation_pb2.ROLE_ASSISTANT:
        return None
    if message.tool_calls:
        return "tool_calls", "must be set only in a message with ROLE_ASSISTANT"
    if role == conversation_pb2.ROLE_USER and not _says_something(message):
        return "parts", "must hold text that is not blank, or an image"
    return None


def _says_something(message: conversation_pb2.Message) -> bool:
    return any(part.HasField("image") or part.text.strip() for part in message.parts)


def _check_tools(tools: Sequence[pb.ToolSpec], within: str) -> None:
    if len(tools) > _MOST_TOOLS:
        raise InvalidField(f"{within}tools", f"must be at most {_MOST_TOOLS}, not {len(tools)}")
    seen: set[str] = set()
    for index, tool in enumerate(tools):
        if not tool.name:
            raise InvalidField(f"{within}tools[{index}].name", "must not be empty")
        if tool.name in seen:
            raise InvalidField(f"{within}tools[{index}].name", "must not be given twice")
        seen.add(tool.name)
        check_arguments(tool.parameters, field=f"{within}tools[{index}].parameters")


def _prompt(request: pb.GenerateRequest, within: str) -> Prompt:
    if not request.HasField("parameters"):
        return Prompt(request.messages, request.tools)
    parameters, path = request.parameters, f"{within}parameters"
    if parameters.output_schema:
        answer_schema(parameters.output_schema, field=f"{path}.output_schema")
    if parameters.max_output_tokens < 0:
        raise InvalidField(
            f"{path}.max_output_tokens", f"must be 0 or more, not {parameters.max_output_tokens}"
        )
    temperature = parameters.temperature if parameters.HasField("temperature") else None
    # Written so that NaN does not pass.
    if temperature is not None and not 0.0 <= temperature <= _HOTTEST:
        raise InvalidField(f"{path}.temperature", f"must be from 0 to 2, not {temperature:g}")
    if len(parameters.stop) > _MOST_STOPS:
        raise InvalidField(
            f"{path}.stop", f"must be at most {_MOST_STOPS} texts, not {len(parameters.stop)}"
        )
    for index, stop in enumerate(parameters.stop):
        if not stop:
            raise InvalidField(f"{path}.stop[{index}]", "must not be empty")
    return Prompt(
        request.messages,
        request.tools,
        max_output_tokens=parameters.max_output_tokens,
        temperature=temperature,
        stop=parameters.stop,
        seed=parameters.seed if parameters.HasField("seed") else None,
        output_schema=parameters.output_schema,
    )


def _spending(request: pb.GenerateRequest, by: str, within: str) -> Spending:
    who = identity.current()
    if len(request.spend_key) > _MOST_KEY_CHARACTERS:
        raise InvalidField(
            f"{within}spend_key",
            f"must have at most {_MOST_KEY_CHARACTERS} characters, not {len(request.spend_key)}",
        )
    if _CONTROL.search(request.spend_key):
        raise InvalidField(f"{within}spend_key", "must have no control character")
    budget = request.task_budget if request.HasField("task_budget") else _NO_BUDGET
    if budget is not _NO_BUDGET:
        path = f"{within}task_budget"
        names.TASK.parse(budget.task, field=f"{path}.task")
        identity.require_tenant(budget.task)
        _check_micros(f"{path}.limit_micros", budget.limit_micros)
        _check_micros(f"{path}.spent_micros", budget.spent_micros)
    return Spending(
        tenant=who.tenant,
        caller=who.caller,
        key=request.spend_key if by.startswith(SERVICE_CALLER) else "",
        task_type=_word(f"{within}task_type", request.task_type),
        agent=_word(f"{within}agent", request.agent),
        session=_word(f"{within}session", request.session),
        task=budget.task,
        task_limit_micros=budget.limit_micros,
        task_spent_micros=budget.spent_micros,
        lane=request.lane,
    )


# Calls are of few kinds: the same words come again and again.
@lru_cache(maxsize=4096)
def _word(field: str, given: str) -> str:
    """What budgets go by, checked."""
    if not _WORD.fullmatch(given):
        raise InvalidField(
            field, "must have at most 200 characters, no blank and no control character"
        )
    return given


def _check_micros(field: str, micros: int) -> None:
    if not 0 <= micros <= _MAX_MICROS:
        raise InvalidField(field, f"must be from 0 to {_MAX_MICROS}, not {micros}")


def _too_large(what: str, size: int, limit: int) -> TooLarge:
    return TooLarge(
        f"{what} have {size} bytes; the limit is {limit}."
        if what.endswith("s")
        else f"{what} has {size} bytes; the limit is {limit}.",
        metadata={"limit_bytes": str(limit), "size_bytes": str(size)},
    )
