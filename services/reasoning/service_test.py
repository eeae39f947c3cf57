"""The contract over a real server: what callers get, and what they must not send."""

import asyncio
from collections.abc import AsyncIterator
from typing import Any

import pytest
from google.protobuf.struct_pb2 import Struct

from agentmesh.common.v1 import tier_pb2
from agentmesh.common.v1.conversation_pb2 import (
    ROLE_ASSISTANT,
    ROLE_SYSTEM,
    ROLE_TOOL,
    ROLE_USER,
    Message,
    Part,
    ToolCall,
    ToolResult,
)
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import batch, errors
from meshkit.constants import BATCH_TENANT
from meshkit.identity import Identity, use
from meshtest.eventually import eventually
from services.reasoning.fixture_reasoning import Bench, reasoning_bench

pytest_plugins = ["services.reasoning.fixture_bench"]

_TIMEOUT = 60.0


def _said(text: str) -> Message:
    return Message(role=ROLE_USER, parts=[Part(text=text)])


def _request(text: str = "What is 1+1?", **fields: object) -> pb.GenerateRequest:
    request = pb.GenerateRequest(messages=[_said(text)], tier=tier_pb2.MODEL_TIER_FAST)
    request.MergeFrom(pb.GenerateRequest(**fields))  # pyright: ignore[reportArgumentType]
    return request


async def test_generate_answers_with_the_model_its_tier_and_its_usage(bench: Bench) -> None:
    """A tool call comes back with why it ended and what it used."""
    request = _request(tools=[pb.ToolSpec(name="calculator")])
    response = await bench.reasoning.Generate(request, timeout=_TIMEOUT)
    (call,) = response.message.tool_calls
    assert (call.tool, dict(call.arguments)) == ("calculator", {"expression": "1 + 1"})
    assert response.stop_reason == pb.STOP_REASON_TOOL_CALLS
    assert (response.model, response.tier) == ("offline", tier_pb2.MODEL_TIER_FAST)
    assert response.cache == pb.CACHE_OUTCOME_UNSPECIFIED
    assert response.usage.model_calls == 1
    assert response.usage.input_tokens > 0 < response.usage.output_tokens
    assert response.usage.cost_micros == 0
    assert list(response.degradations) == []


async def test_no_tier_and_no_model_mean_the_default_tier(bench: Bench) -> None:
    """Until requests are classified, the configuration says where they go."""
    response = await bench.reasoning.Generate(
        pb.GenerateRequest(messages=[_said("Hello")]), timeout=_TIMEOUT
    )
    assert (response.model, response.tier) == ("paid", tier_pb2.MODEL_TIER_BALANCED)


async def test_a_model_can_be_asked_by_name(bench: Bench) -> None:
    """The name wins over the tier."""
    request = _request(model="paid")
    response = await bench.reasoning.Generate(request, timeout=_TIMEOUT)
    assert (response.model, response.tier) == ("paid", tier_pb2.MODEL_TIER_BALANCED)
    assert response.message.parts[0].text == "All is well today."


@pytest.mark.parametrize("name", ["gpt-6", "tiny", "gpt-5-mini"])
async def test_a_model_that_cannot_be_called_is_not_found(bench: Bench, name: str) -> None:
    """Unknown models, embedders and models without a provider; the callable ones are named."""
    with pytest.raises(errors.ModelNotFound) as caught:
        await bench.reasoning.Generate(_request(model=name), timeout=_TIMEOUT)
    assert caught.value.message == (
        f"The model '{name}' cannot be called. Callable are: offline, paid."
    )
    assert caught.value.metadata == {"model": name}


async def test_a_tier_without_a_model_is_not_found(bench: Bench) -> None:
    """The configuration has no powerful model."""
    with pytest.raises(errors.ModelNotFound) as caught:
        await bench.reasoning.Generate(
            pb.GenerateRequest(messages=[_said("Hi")], tier=tier_pb2.MODEL_TIER_POWERFUL),
            timeout=_TIMEOUT,
        )
    assert caught.value.message == (
        "No model of the tier powerful can be called. The settings name none."
    )


def _struct(**values: Any) -> Struct:
    struct = Struct()
    struct.update(values)
    return struct


_WRONG: list[tuple[pb.GenerateRequest, str, str]] = [
    (pb.GenerateRequest(), "messages", "must hold at least one message"),
    (
        pb.GenerateRequest(messages=[_said("a"), Message(parts=[Part(text="b")])]),
        "messages[1].role",
        "must be SYSTEM, USER, ASSISTANT or TOOL",
    ),
    (
        pb.GenerateRequest(messages=[_said(" \n")]),
        "messages[0].parts",
        "must hold text that is not blank, or an image",
    ),
    (
        pb.GenerateRequest(messages=[Message(role=ROLE_TOOL)]),
        "messages[0].tool_result",
        "must be set in a message with ROLE_TOOL",
    ),
    (
        pb.GenerateRequest(messages=[Message(role=ROLE_TOOL, tool_result=ToolResult(tool="x"))]),
        "messages[0].tool_result.call_id",
        "must name the tool call that this answers",
    ),
    (
        pb.GenerateRequest(
            messages=[Message(role=ROLE_ASSISTANT, tool_result=ToolResult(call_id="x"))]
        ),
        "messages[0].tool_result",
        "must be set only in a message with ROLE_TOOL",
    ),
    (
        pb.GenerateRequest(
            messages=[Message(role=ROLE_SYSTEM, tool_calls=[ToolCall(call_id="x")])]
        ),
        "messages[0].tool_calls",
        "must be set only in a message with ROLE_ASSISTANT",
    ),
    (_request(tools=[pb.ToolSpec()]), "tools[0].name", "must not be empty"),
    (
        _request(tools=[pb.ToolSpec(name="a", parameters=_struct(properties={"b": 5}))]),
        "tools[0].parameters.properties.b",
        "is no JSON Schema: 5 is not of type 'object', 'boolean'",
    ),
    (
        _request(
            parameters=pb.GenerationParameters(output_schema='{"properties": {"a": {"$ref": "x"}}}')
        ),
        "parameters.output_schema.properties.a.$ref",
        "must begin with #: no other document is fetched",
    ),
    (
        _request(tools=[pb.ToolSpec(name="a"), pb.ToolSpec(name="a")]),
        "tools[1].name",
        "must not be given twice",
    ),
    (_request(tier=9), "tier", "must be FAST, BALANCED, POWERFUL or unset, not 9"),
    (
        _request(parameters=pb.GenerationParameters(temperature=2.5)),
        "parameters.temperature",
        "must be from 0 to 2, not 2.5",
    ),
    (
        _request(parameters=pb.GenerationParameters(temperature=float("nan"))),
        "parameters.temperature",
        "must be from 0 to 2, not nan",
    ),
    (
        _request(parameters=pb.GenerationParameters(max_output_tokens=-1)),
        "parameters.max_output_tokens",
        "must be 0 or more, not -1",
    ),
    (
        _request(parameters=pb.GenerationParameters(stop=["a"] * 9)),
        "parameters.stop",
        "must be at most 8 texts, not 9",
    ),
    (
        _request(parameters=pb.GenerationParameters(stop=["a", ""])),
        "parameters.stop[1]",
        "must not be empty",
    ),
    (_request(spend_key="x" * 201), "spend_key", "must have at most 200 characters, not 201"),
    (
        _request(task_budget=pb.TaskBudget(task="tenants/default/tasks/a", limit_micros=-1)),
        "task_budget.limit_micros",
        "must be from 0 to 9000000000000000, not -1",
    ),
]


@pytest.mark.parametrize(("request_", "field", "description"), _WRONG)
async def test_a_wrong_field_is_named(
    bench: Bench, request_: pb.GenerateRequest, field: str, description: str
) -> None:
    """Generate and GenerateStream name the exact path and what would be right."""
    with pytest.raises(errors.InvalidField) as caught:
        await bench.reasoning.Generate(request_, timeout=_TIMEOUT)
    assert caught.value.violations == (errors.Violation(field, description),)
    with pytest.raises(errors.InvalidField) as caught:
        async for _ in bench.reasoning.GenerateStream(
            pb.GenerateStreamRequest(request=request_), timeout=_TIMEOUT
        ):
            pass
    assert caught.value.violations == (errors.Violation(f"request.{field}", description),)


async def test_another_tenants_task_cannot_be_spent_on(bench: Bench) -> None:
    """The task's budget must be of the caller's tenant."""
    budget = pb.TaskBudget(task="tenants/other/tasks/a", limit_micros=1)
    with pytest.raises(errors.Forbidden):
        await bench.reasoning.Generate(_request(task_budget=budget), timeout=_TIMEOUT)


async def test_a_conversation_over_2_mib_is_too_large(bench: Bench) -> None:
    """The limit and the size are told; just below it is served."""
    with pytest.raises(errors.TooLarge) as caught:
        await bench.reasoning.Generate(_request("x" * (2 << 20)), timeout=_TIMEOUT)
    assert caught.value.metadata["limit_bytes"] == "2097152"
    assert int(caught.value.metadata["size_bytes"]) > 2 << 20
    response = await bench.reasoning.Generate(_request("x" * ((2 << 20) - 64)), timeout=_TIMEOUT)
    assert response.stop_reason == pb.STOP_REASON_END


_CITY = '{"type": "object", "properties": {"city": {"type": "string"}}, "required": ["city"]}'


async def test_structured_output_comes_as_data(bench: Bench) -> None:
    """What is almost JSON is repaired, and the message says the same as the data."""
    bench.provider.text = "Here it is: {'city': 'Ulm'}"
    asked = _request(model="paid", parameters=pb.GenerationParameters(output_schema=_CITY))
    response = await bench.reasoning.Generate(asked, timeout=_TIMEOUT)
    assert dict(response.data) == {"city": "Ulm"}
    assert response.message.parts[0].text == '{"city": "Ulm"}'
    stream = bench.reasoning.GenerateStream(
        pb.GenerateStreamRequest(request=asked), timeout=_TIMEOUT
    )
    updates = [each async for each in stream]
    assert updates[0].text_delta == "Here"
    assert dict(updates[-1].response.data) == {"city": "Ulm"}


async def test_an_answer_that_never_fits_fails_and_is_charged(bench: Bench) -> None:
    """Both of the model's answers are paid, in one charge."""
    asked = _request(
        model="paid", spend_key="k", parameters=pb.GenerationParameters(output_schema=_CITY)
    )
    with pytest.raises(errors.ProviderFailed) as caught:
        await bench.reasoning.Generate(asked, timeout=_TIMEOUT)
    assert caught.value.message == (
        "The model paid (scripted) gave no answer that satisfies the output schema, asked twice:"
        " it holds no JSON object."
    )
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    (settled,) = await eventually(lambda: bench.governor.settled)
    used = (settled.usage.input_tokens, settled.usage.output_tokens)
    assert used == (int(caught.value.metadata["input_tokens"]), 10)
    assert bench.governor.released == []


async def test_classify_is_not_served_yet(bench: Bench) -> None:
    """UNIMPLEMENTED, with a sentence."""
    with pytest.raises(errors.NotImplementedYet) as caught:
        await bench.reasoning.Classify(pb.ClassifyRequest(), timeout=_TIMEOUT)
    assert caught.value.message == (
        "Classify is part of the contract, but this version does not serve it."
    )


async def test_a_stream_gives_words_and_then_everything(bench: Bench) -> None:
    """The last message is the whole response, with its cost."""
    stream = bench.reasoning.GenerateStream(
        pb.GenerateStreamRequest(request=_request(model="paid")), timeout=_TIMEOUT
    )
    updates = [each async for each in stream]
    assert [each.text_delta for each in updates[:-1]] == ["All", "is", "well", "today."]
    response = updates[-1].response
    assert response.message.parts[0].text == "All is well today."
    usage = response.usage
    assert usage.cost_micros == 2 * (usage.input_tokens + usage.output_tokens) > 0


async def test_a_cancelled_stream_stops_the_model_and_is_charged_for_its_words(
    bench: Bench,
) -> None:
    """What was produced is settled; nothing goes on for a caller that left."""
    bench.provider.go_on.clear()
    stream = bench.reasoning.GenerateStream(
        pb.GenerateStreamRequest(request=_request(model="paid", spend_key="k")), timeout=_TIMEOUT
    )
    first = await anext(aiter(stream))
    assert first.text_delta == "All"
    stream.cancel()
    await eventually(lambda: bench.provider.closed_streams == 1)
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.key, each.usage.output_tokens) for each in settled] == [("k", 1)]
    assert bench.governor.released == []


async def test_a_cancelled_call_is_charged_for_its_input(bench: Bench) -> None:
    """The model had begun to read it, and nobody knows how far it came."""
    bench.provider.go_on.clear()

    async def ask() -> None:
        await bench.reasoning.Generate(_request(model="paid", spend_key="k"), timeout=_TIMEOUT)

    call = asyncio.create_task(ask())
    await eventually(lambda: bench.provider.waiting)
    call.cancel()
    await eventually(lambda: bench.clock.sleeping == 1)
    await bench.clock.advance(0.1)
    settled = await eventually(lambda: bench.governor.settled)
    assert [(each.parent, each.key) for each in settled] == [("tenants/default", "k")]
    assert settled[0].usage.input_tokens > 0
    assert settled[0].usage.output_tokens == 0
    assert bench.governor.released == []


async def test_a_batch_answers_each_item_under_its_own_tenant(bench: Bench) -> None:
    """Items succeed and fail by themselves, and each tenant is charged for its own."""
    items: list[pb.BatchGenerateItem] = []
    for index, (tenant, model) in enumerate(
        [("acme", "paid"), ("umbrella", "paid"), ("acme", "?")]
    ):
        with use(Identity(tenant, "user:ada")):
            context = batch.item_context(_TIMEOUT, index=index)
        items.append(pb.BatchGenerateItem(context=context, request=_request(model=model)))
    answers: dict[int, pb.BatchGenerateResult] = {}
    with use(Identity(BATCH_TENANT, "service:executor")):
        stream = bench.reasoning.BatchGenerate(
            pb.BatchGenerateRequest(items=items), timeout=_TIMEOUT
        )
    async for some in stream:
        answers.update({each.index: each for each in some.results})
    assert answers[0].response.model == answers[1].response.model == "paid"
    assert isinstance(errors.from_status(answers[2].error), errors.ModelNotFound)
    assert sorted(bench.governor.tenants) == ["acme", "umbrella"]
    assert sorted(each.parent for each in bench.governor.settled) == [
        "tenants/acme",
        "tenants/umbrella",
    ]


async def test_batches_follow_each_other_on_a_stream(bench: Bench) -> None:
    """Each call is answered by its index, and charged once."""

    async def batches() -> AsyncIterator[pb.BatchGenerateStreamRequest]:
        for index in range(3):
            with use(Identity("acme", "user:ada")):
                context = batch.item_context(_TIMEOUT, index=index)
            asked = _request(model="paid", spend_key=f"k{index}")
            yield pb.BatchGenerateStreamRequest(
                items=[pb.BatchGenerateItem(context=context, request=asked)]
            )

    with use(Identity("acme", "service:executor")):
        stream = bench.reasoning.BatchGenerateStream(batches(), timeout=_TIMEOUT)
    answered = [(each.index, each.response.model) async for some in stream for each in some.results]
    assert sorted(answered) == [(0, "paid"), (1, "paid"), (2, "paid")]
    assert sorted(each.key for each in bench.governor.settled) == ["k0", "k1", "k2"]


async def test_only_a_service_says_which_calls_are_the_same() -> None:
    """Each call of anybody else is a spending of its own, whatever key and caller it names."""
    asked = _request(model="paid", spend_key="k")
    async with reasoning_bench(caller="user:anonymous") as bench:
        await bench.reasoning.Generate(asked, timeout=_TIMEOUT)
        streamed = bench.reasoning.GenerateStream(
            pb.GenerateStreamRequest(request=asked), timeout=_TIMEOUT
        )
        assert [each async for each in streamed]
        with use(Identity("default", "service:executor")):
            context = batch.item_context(_TIMEOUT)
            batched = bench.reasoning.BatchGenerate(
                pb.BatchGenerateRequest(
                    items=[pb.BatchGenerateItem(context=context, request=asked)]
                ),
                timeout=_TIMEOUT,
            )
            (answer,) = [each async for each in batched]
        assert answer.results[0].response.model == "paid"
        keys = {each.key for each in bench.governor.admitted}
    assert len(keys) == 3
    assert "k" not in keys


async def test_a_services_key_reaches_the_governor_from_a_batch(bench: Bench) -> None:
    """Also for an item that is for a user."""
    with use(Identity("acme", "user:ada")):
        context = batch.item_context(_TIMEOUT)
    item = pb.BatchGenerateItem(context=context, request=_request(model="paid", spend_key="k"))
    with use(Identity(BATCH_TENANT, "service:executor")):
        stream = bench.reasoning.BatchGenerate(
            pb.BatchGenerateRequest(items=[item]), timeout=_TIMEOUT
        )
        assert [each async for each in stream]
    assert [each.key for each in bench.governor.admitted] == ["k"]
