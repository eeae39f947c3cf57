"""API keys over several coordinators, and what becomes of them when things break."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import pytest

from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy
from services.coordinator import access_world
from services.coordinator.access_world import Coordinator

pytest_plugins = ["meshtest.fixtures"]

_AWAY = "API keys cannot be checked now: their store does not answer."


@pytest.fixture
async def one(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Coordinator]:
    """A coordinator."""
    async with access_world.coordinator(nats_server.url, tmp_path / "one") as made:
        yield made


@pytest.fixture
async def two(nats_server: NatsServer, tmp_path: Path) -> AsyncIterator[Coordinator]:
    """Another one on the same broker."""
    async with access_world.coordinator(nats_server.url, tmp_path / "two") as made:
        yield made


async def test_a_key_counts_everywhere_at_once(one: Coordinator, two: Coordinator) -> None:
    """Who has just got a key is let in by every coordinator."""
    for _ in range(20):
        made = await one.create()
        assert await two.verdict(made.text) == "passed"


async def test_a_revocation_holds_everywhere(one: Coordinator, two: Coordinator) -> None:
    """Where it was made at once, elsewhere soon, although the key is in use all along.

    How soon is shown of the key ring, by a clock that the test moves.
    """
    made = await one.create()
    assert await two.verdict(made.text) == "passed"
    await one.revoke(made.key.name)

    assert await one.verdict(made.text) == "revoked"

    async def refused() -> bool:
        return await two.verdict(made.text) == "revoked"

    await eventually(refused)


async def test_keys_outlive_the_broker(
    one: Coordinator, two: Coordinator, nats_server: NatsServer
) -> None:
    """After a broker that was killed is back, keys count, and revocations hold, everywhere."""
    kept, ended = await one.create(), await one.create()
    assert await two.verdict(kept.text) == "passed"
    nats_server.restart()

    async def revoked() -> bool:
        try:
            await one.revoke(ended.key.name)
        except DependencyUnavailable:
            return False
        return True

    await eventually(revoked)
    for each in (one, two):

        async def settled(coordinator: Coordinator = each) -> bool:
            try:
                verdicts = [await coordinator.verdict(key.text) for key in (kept, ended)]
            except DependencyUnavailable:
                return False
            return verdicts == ["passed", "revoked"]

        await eventually(settled)


async def test_without_the_broker_nobody_is_let_in_for_long(
    one: Coordinator, nats_server: NatsServer
) -> None:
    """A key that may have been revoked is no key: the answer is UNAVAILABLE, before a caller's
    time is over."""
    made = await one.create()
    nats_server.kill()

    async def closed() -> bool:
        try:
            return await one.verdict(made.text) != "passed"
        except DependencyUnavailable:
            return True

    await eventually(closed)
    with pytest.raises(DependencyUnavailable) as raised:
        await one.verdict(made.text)
    assert raised.value.message == _AWAY
    nats_server.start()

    async def open_again() -> bool:
        try:
            return await one.verdict(made.text) == "passed"
        except DependencyUnavailable:
            return False

    await eventually(open_again)


@pytest.mark.parametrize("silent", [True, False], ids=["silence", "refusal"])
async def test_a_coordinator_that_is_cut_off_lets_nobody_in_that_was_revoked(
    nats_server: NatsServer, one: Coordinator, tmp_path: Path, *, silent: bool
) -> None:
    """After the revocation elsewhere it refuses, or says that it cannot tell."""
    async with FaultProxy(nats_server.port) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        async with access_world.coordinator(url, tmp_path / "apart") as apart:
            made = await one.create()
            assert await apart.verdict(made.text) == "passed"
            if silent:
                proxy.swallow_answers = True
            else:
                proxy.refuse = True
                proxy.cut()
            await one.revoke(made.key.name)

            async def closed() -> bool:
                try:
                    return await apart.verdict(made.text) == "revoked"
                except DependencyUnavailable:
                    return True

            await eventually(closed)
            proxy.swallow_answers = proxy.refuse = False
            proxy.cut()

            async def refused() -> bool:
                try:
                    return await apart.verdict(made.text) == "revoked"
                except DependencyUnavailable:
                    return False

            await eventually(refused)


async def test_a_lost_answer_costs_no_second_key(
    nats_server: NatsServer, tmp_path: Path, one: Coordinator
) -> None:
    """A call whose answer the broker's silence swallowed is repeated, and there is one key."""
    async with FaultProxy(nats_server.port) as proxy:
        url = f"nats://127.0.0.1:{proxy.port}"
        async with access_world.coordinator(url, tmp_path / "apart") as apart:
            # It has read the stream once.
            assert await apart.list() == []
            making = asyncio.create_task(apart.create(request_id="r-1"))
            await asyncio.sleep(0)
            proxy.swallow_answers = True
            await asyncio.wait([making], timeout=1.0)
            proxy.swallow_answers = False
            proxy.cut()
            await asyncio.gather(making, return_exceptions=True)

            again = await one.create(request_id="r-1")
            assert [each.name for each in await one.list()] == [again.key.name]


async def test_a_thousand_guesses_cost_few_questions(one: Coordinator) -> None:
    """Unknown keys are refused together, and those who have one come in meanwhile."""
    made = await one.create()
    guesses = [f"amk_{'a' * 20}{number:06d}_{'x' * 43}" for number in range(500)]

    verdicts = await asyncio.gather(
        *(one.verdict(each) for each in guesses), one.verdict(made.text)
    )

    assert set(verdicts[:-1]) == {"unknown"}
    assert verdicts[-1] == "passed"


async def test_what_cannot_be_read_is_no_key(nats_server: NatsServer, one: Coordinator) -> None:
    """A message that is damaged locks out its own key alone."""
    damaged, whole = await one.create(), await one.create()
    subject = f"apikey.key.acme.{damaged.key.name.rpartition('/')[2]}"
    async with await Bus.connect(nats_server.url, name="test") as bus:
        message = await bus.last("API_KEYS", subject)
        assert message is not None
        await bus.append(subject, b"\xff\xff", expected_last=message.sequence)
    assert await one.verdict(whole.text) == "passed"
    nats_server.restart()

    async def settled() -> bool:
        try:
            verdicts = [await one.verdict(each.text) for each in (damaged, whole)]
        except DependencyUnavailable:
            return False
        return verdicts == ["unknown", "passed"]

    await eventually(settled)
