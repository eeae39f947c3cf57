"""How every provider fails, and when it stops waiting: one suite, run against each of them."""

import asyncio
from typing import Final

import pytest

from meshkit.errors import MeshError
from meshtest.eventually import eventually
from services.reasoning.conformance_calls import SECRET_WORDS, Ask, needs, streamed, whole
from services.reasoning.generation import StopReason
from services.reasoning.prompts import prompt_of, text_of
from services.reasoning.provider_failures import Failure, failure_of
from services.reasoning.upstream import (
    USUAL_LIMITS,
    Ability,
    Limits,
    Reply,
    Script,
    Upstream,
)

pytest_plugins = ["services.reasoning.fixture_conformance"]

# A server that waits for this long is waited for by nobody.
_FOR_EVER_SECONDS: Final = 3600.0
# By then the server has noticed that its client left, on the slowest machine.
_NOTICED_SECONDS: Final = 60.0


async def _failure(
    upstream: Upstream, ask: Ask, script: Script, limits: Limits = USUAL_LIMITS
) -> MeshError:
    """How a prompt fails; that its words and the key are not in the error is checked."""
    async with upstream.provider(script, limits) as provider:
        with pytest.raises(MeshError) as caught:
            await ask(provider, prompt_of(SECRET_WORDS))
    error = caught.value
    told = f"{error!r} {error} {error.metadata}"
    assert SECRET_WORDS not in told
    assert not upstream.key or upstream.key not in told
    assert error.metadata["provider"] == upstream.name
    assert error.metadata["model"] == "scripted"
    return error


@pytest.mark.parametrize(
    "failure",
    [
        Failure.OVERLOADED,
        Failure.SERVER_ERROR,
        Failure.RATE_LIMITED,
        Failure.UNAUTHORISED,
        Failure.NO_MODEL,
        Failure.REJECTED,
    ],
)
async def test_a_refusal_is_told_as_what_it_is(
    upstream: Upstream, ask: Ask, failure: Failure
) -> None:
    """One request is made, and the failure has its one name."""
    script = Script(failure=failure, message=f"Wrong: {SECRET_WORDS} {upstream.key}")
    error = await _failure(upstream, ask, script)
    assert failure_of(error) is failure
    assert len(upstream.requests) == 1


@pytest.mark.parametrize("failure", [Failure.RATE_LIMITED, Failure.OVERLOADED])
async def test_a_refusal_says_when_to_come_back(
    upstream: Upstream, ask: Ask, failure: Failure
) -> None:
    """As the provider says it."""
    needs(upstream, Ability.RETRY_AFTER)
    error = await _failure(upstream, ask, Script(failure=failure, retry_after_seconds=7.0))
    assert error.retry_after_seconds == 7.0


async def test_a_wrong_key_is_told_and_not_shown(upstream: Upstream, ask: Ask) -> None:
    """Neither in the error nor in what the provider looks like."""
    needs(upstream, Ability.KEYS)
    wrong = "sk-wrong-9876543210"
    async with upstream.provider(Script(), key=wrong) as provider:
        with pytest.raises(MeshError) as caught:
            await ask(provider, prompt_of())
        assert wrong not in f"{provider!r} {provider}"
    assert failure_of(caught.value) is Failure.UNAUTHORISED
    assert wrong not in f"{caught.value!r} {caught.value.metadata}"


async def test_nobody_there(upstream: Upstream, ask: Ask) -> None:
    """The endpoint cannot be reached."""
    async with upstream.provider_of_nobody() as provider:
        with pytest.raises(MeshError) as caught:
            await ask(provider, prompt_of())
    assert failure_of(caught.value) is Failure.UNREACHABLE


@pytest.mark.parametrize(
    ("script", "failure"),
    [
        (Script(cut_after=0), Failure.UNREACHABLE),
        (Script(cut_after=2), Failure.BROKEN_ANSWER),
        (Script(end_after=2), Failure.BROKEN_ANSWER),
        (Script(end_after=0), Failure.BROKEN_ANSWER),
        (Script(body="<html>Bad gateway</html>"), Failure.BROKEN_ANSWER),
        (Script(body="data: {\n\n"), Failure.BROKEN_ANSWER),
        (Script(body="data: []\n\n"), Failure.BROKEN_ANSWER),
        (Script(body="[" * 100_000), Failure.BROKEN_ANSWER),
        (Script(body="data: " + "[" * 100_000 + "\n\n"), Failure.BROKEN_ANSWER),
        (Script(body="{}"), Failure.BROKEN_ANSWER),
        (Script(body="\x00\ufffd"), Failure.BROKEN_ANSWER),
    ],
)
async def test_a_broken_answer_is_no_answer(
    upstream: Upstream, ask: Ask, script: Script, failure: Failure
) -> None:
    """Cut, cut short in good order, or none at all: never half of one as if it were whole."""
    assert failure_of(await _failure(upstream, ask, script)) is failure


@pytest.mark.parametrize(
    ("script", "limits"),
    [
        (
            Script(delay_seconds=_FOR_EVER_SECONDS),
            Limits(silence_seconds=1.0, whole_seconds=_FOR_EVER_SECONDS),
        ),
        (Script(hang_after=1), Limits(silence_seconds=1.0, whole_seconds=_FOR_EVER_SECONDS)),
        (
            Script(delay_seconds=_FOR_EVER_SECONDS),
            Limits(silence_seconds=_FOR_EVER_SECONDS, whole_seconds=1.0),
        ),
        (Script(hang_after=1), Limits(silence_seconds=_FOR_EVER_SECONDS, whole_seconds=1.0)),
        (
            Script(reply=Reply(("a",) * 50), pause_seconds=0.9),
            Limits(silence_seconds=_FOR_EVER_SECONDS, whole_seconds=1.0),
        ),
    ],
    ids=["no first byte", "silent", "late", "late after a start", "drips"],
)
async def test_who_takes_too_long_is_left(
    upstream: Upstream, ask: Ask, script: Script, limits: Limits
) -> None:
    """The failure is a timeout, and the server is told by the end of the connection."""
    error = await _failure(upstream, ask, script, limits)
    assert failure_of(error) is Failure.TIMEOUT
    await asyncio.wait_for(upstream.requests[0].client_left.wait(), _NOTICED_SECONDS)


async def test_an_endless_stream_ends(upstream: Upstream) -> None:
    """At the limit of tokens, with what was said until then; the server is left."""
    limits = Limits(max_output_tokens=256, whole_seconds=_FOR_EVER_SECONDS)
    async with upstream.provider(Script(endless=True), limits) as provider:
        completion = await streamed(provider, prompt_of())
        await asyncio.wait_for(upstream.requests[0].client_left.wait(), _NOTICED_SECONDS)
    assert completion.stop_reason is StopReason.MAX_TOKENS
    assert len(text_of(completion)) < 100_000
    assert completion.output_tokens >= 256


async def test_an_endless_answer_is_no_answer(upstream: Upstream) -> None:
    """What comes whole is bounded in bytes."""
    limits = Limits(whole_seconds=_FOR_EVER_SECONDS)
    error = await _failure(upstream, whole, Script(endless=True), limits)
    assert failure_of(error) is Failure.BROKEN_ANSWER


@pytest.mark.parametrize(
    "script",
    [
        Script(delay_seconds=_FOR_EVER_SECONDS),
        Script(hang_after=1),
        Script(endless=True, pause_seconds=0.01),
    ],
    ids=["before the answer", "within it", "while it goes on"],
)
async def test_a_caller_who_leaves_takes_the_call_along(
    upstream: Upstream, ask: Ask, script: Script
) -> None:
    """The server, which would go on for ever, notices: nothing is generated for nobody."""
    limits = Limits(silence_seconds=_FOR_EVER_SECONDS, whole_seconds=_FOR_EVER_SECONDS)
    async with upstream.provider(script, limits) as provider:
        asking = asyncio.ensure_future(ask(provider, prompt_of()))
        await eventually(lambda: bool(upstream.requests))
        # The answer may begin.
        await asyncio.sleep(0.05)
        asking.cancel()
        with pytest.raises(asyncio.CancelledError):
            await asking
        await asyncio.wait_for(upstream.requests[0].client_left.wait(), _NOTICED_SECONDS)


async def test_text_comes_as_it_appears_until_the_stream_is_closed(upstream: Upstream) -> None:
    """The first piece is there though the server never ends; whoever has heard enough closes
    the stream, and the server notices.
    """
    limits = Limits(silence_seconds=_FOR_EVER_SECONDS, whole_seconds=_FOR_EVER_SECONDS)
    async with upstream.provider(Script(endless=True, pause_seconds=0.01), limits) as provider:
        updates = provider.stream(prompt_of())
        async with asyncio.timeout(_NOTICED_SECONDS):
            assert isinstance(await anext(updates), str)
        await updates.aclose()
        await asyncio.wait_for(upstream.requests[0].client_left.wait(), _NOTICED_SECONDS)
