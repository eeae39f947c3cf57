"""The last answer to the same request, for the same tenant, on a real Redis."""

import asyncio
from collections.abc import AsyncIterator, Callable
from dataclasses import replace
from typing import Final

import pytest
from google.protobuf import struct_pb2

from agentmesh.common.v1.conversation_pb2 import ROLE_USER, Citation, Message, Part
from agentmesh.reasoning.v1 import reasoning_service_pb2 as pb
from meshkit import redis_store
from meshkit.redis_line import RedisLine
from meshtest.clock import FakeClock
from meshtest.redis_server import RedisServer
from services.reasoning.generation import Generation, ModelCall, Prompt, StopReason
from services.reasoning.last_answers import LastAnswers, request_digest
from services.reasoning.last_answers_redis import RedisAnswers
from services.reasoning.model import Tier
from services.reasoning.scripted_generator import answer, call_of, spec

pytest_plugins = ["meshtest.fixtures"]

_CALL: Final = call_of(spec("large"))
_MESSAGE: Final = Message(role=ROLE_USER, parts=[Part(text="Hello")])
Make = Callable[..., LastAnswers]


@pytest.fixture
async def make(redis_server: RedisServer, clock: FakeClock) -> AsyncIterator[Make]:
    """Stores, each as another process would have it."""
    redis = redis_store.connect(redis_server.url)
    async with RedisLine(redis) as line:

        def answers(most: int = 10) -> LastAnswers:
            return LastAnswers(RedisAnswers(line), seconds=3600, most=most, clock=clock)

        yield answers
    await redis.aclose()


async def test_it_is_found_in_every_process_and_says_how_old_it_is(
    make: Make, clock: FakeClock
) -> None:
    """With its citations and data; it costs nothing."""
    data = struct_pb2.Struct()
    data.update({"well": True})
    given = answer(_CALL)
    given = replace(
        given,
        cost_micros=7,
        completion=replace(given.completion, citations=(Citation(document="a"),), data=data),
    )
    first, second = make(), make()
    first.keep(_CALL, given)
    await first.close()
    await clock.advance(150)
    for each in (first, second):
        found = await each.find(_CALL)
        assert found is not None
        assert found.degradations == (
            "No model could be reached: this is what large answered to the same request"
            " 2 minutes ago.",
        )
        assert found.completion == replace(given.completion, input_tokens=0, output_tokens=0)
        assert (found.cost_micros, found.tier) == (0, Tier.BALANCED)


@pytest.mark.parametrize(
    "other",
    [
        call_of(spec("large"), tenant="umbrella"),
        call_of(spec("large"), Tier.FAST),
        replace(_CALL, named=True),
        replace(_CALL, prompt=Prompt([_MESSAGE, _MESSAGE], ())),
        replace(_CALL, prompt=Prompt([_MESSAGE], [pb.ToolSpec(name="x")])),
        replace(_CALL, prompt=Prompt([_MESSAGE], (), output_schema="{}")),
        replace(_CALL, prompt=Prompt([_MESSAGE], (), temperature=0.5)),
        replace(_CALL, prompt=Prompt([_MESSAGE], (), stop=["x"])),
        replace(_CALL, prompt=Prompt([_MESSAGE], (), seed=1)),
        replace(_CALL, prompt=Prompt([_MESSAGE], (), max_output_tokens=5)),
    ],
    ids=[
        *("tenant", "tier", "named", "messages", "tools"),
        *("output_schema", "temperature", "stop", "seed", "max_output_tokens"),
    ],
)
async def test_no_other_request_finds_it(make: Make, other: ModelCall) -> None:
    """Another tenant's above all, also where the process is the same."""
    answers = make()
    answers.keep(_CALL, answer(_CALL))
    await answers.close()
    assert await answers.find(other) is None
    assert request_digest(other) != request_digest(_CALL)


async def test_who_asks_in_which_task_does_not_matter(make: Make) -> None:
    """Only what is asked, and for whom."""
    answers = make()
    answers.keep(_CALL, answer(_CALL))
    other = call_of(spec("other"), key="t/9/9", session="s", agent="b")
    assert await answers.find(other) is not None
    await answers.close()


async def test_what_is_too_old_is_not_given(make: Make, clock: FakeClock) -> None:
    """An hour here."""
    answers = make()
    answers.keep(_CALL, answer(_CALL))
    await answers.close()
    await clock.advance(3600)
    assert await answers.find(_CALL) is not None
    await clock.advance(1)
    assert await answers.find(_CALL) is None


@pytest.mark.parametrize(
    "given",
    [
        replace(answer(_CALL), degradations=("Answered by another.",)),
        replace(
            answer(_CALL),
            completion=replace(answer(_CALL).completion, stop_reason=StopReason.MAX_TOKENS),
        ),
        answer(_CALL, "long " * 20_000),
    ],
    ids=["poorer than asked", "not whole", "too long"],
)
async def test_other_answers_are_not_kept(make: Make, given: Generation) -> None:
    """Nor what would take too much room."""
    answers = make()
    answers.keep(_CALL, given)
    await answers.close()
    assert await answers.find(_CALL) is None


async def test_a_process_keeps_a_few_and_asks_redis_for_others(make: Make) -> None:
    """The longest unused are dropped from memory."""
    answers = make(most=2)
    calls = [
        replace(_CALL, prompt=Prompt([Message(role=ROLE_USER, parts=[Part(text=text)])], ()))
        for text in "abc"
    ]
    for call in calls:
        answers.keep(call, answer(call))
    await answers.close()
    found = await asyncio.gather(*(answers.find(call) for call in calls))
    assert all(found)


async def test_without_redis_a_process_has_its_own(make: Make, redis_server: RedisServer) -> None:
    """And finds nothing of others, without an error."""
    redis_server.kill()
    first, second = make(), make()
    first.keep(_CALL, answer(_CALL))
    assert await first.find(_CALL) is not None
    assert await second.find(_CALL) is None
    await first.close()
