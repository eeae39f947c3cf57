"""Tests of pulling from many consumers, against a real server."""

import asyncio
from collections.abc import AsyncIterator

import pytest

from meshkit import bus_puller
from meshkit.bus import Bus, ConsumerSpec, Delivery, Puller, StreamSpec
from meshkit.errors import DependencyUnavailable
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy

pytest_plugins = ["meshtest.fixtures"]

_STREAM = StreamSpec("WORK", ("work.*.*",), "Tests.")


class Pulls:
    """What a puller brings and tells."""

    def __init__(self, bus: Bus) -> None:
        self.bus = bus
        self.taken: list[Delivery] = []
        self.ended: list[tuple[str, bool]] = []
        self.puller: Puller

    async def open(self) -> "Pulls":
        self.puller = await self.bus.puller(
            "WORK",
            acknowledge_wait_seconds=1.0,
            deliver=self.taken.append,
            ended=lambda consumer, is_missing: self.ended.append((consumer, is_missing)),
        )
        return self

    @property
    def payloads(self) -> list[bytes]:
        return [each.payload for each in self.taken]


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A bus with the stream WORK and the consumers `a` and `b`, each with its own part of it."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_STREAM)
        for name in "ab":
            await bus.ensure_consumer(
                ConsumerSpec("WORK", name, f"work.{name}.*", 1.0, 100, "Tests.")
            )
        yield bus


@pytest.fixture
async def pulls(bus: Bus) -> AsyncIterator[Pulls]:
    """A puller on it."""
    pulls = await Pulls(bus).open()
    yield pulls
    await pulls.puller.close()


async def _store(bus: Bus, name: str, *numbers: int) -> None:
    for number in numbers:
        await bus.append(f"work.{name}.{number}", b"%d" % number, expected_last=0)


async def test_a_pull_brings_what_was_asked_for_and_no_more(bus: Bus, pulls: Pulls) -> None:
    """Each message says where it is from and what is left; a used-up pull ends in silence."""
    await _store(bus, "a", 1, 2, 3, 4, 5)
    await _store(bus, "b", 6, 7)
    await pulls.puller.ask("a", 3, 60.0)
    await pulls.puller.ask("b", 1, 60.0)
    await eventually(lambda: len(pulls.taken) == 4)
    told = sorted((each.consumer, each.payload, each.pending) for each in pulls.taken)
    assert [each[:2] for each in told] == [("a", b"1"), ("a", b"2"), ("a", b"3"), ("b", b"6")]
    # What was stored a moment ago the broker may not have counted yet.
    assert all(pending <= left for (_, _, pending), left in zip(told, (4, 3, 2, 1), strict=True))
    await pulls.puller.ask("a", 3, 60.0)
    await eventually(lambda: len(pulls.taken) == 6)
    assert pulls.ended == []


async def test_a_pull_ends_when_its_time_is_over(bus: Bus, pulls: Pulls) -> None:
    """What comes later waits for the next pull."""
    await _store(bus, "a", 1)
    await pulls.puller.ask("a", 2, 0.2)
    await eventually(lambda: pulls.ended == [("a", False)])
    await _store(bus, "a", 2)
    assert pulls.payloads == [b"1"]
    await pulls.puller.ask("a", 1, 60.0)
    await eventually(lambda: pulls.payloads == [b"1", b"2"])


async def test_a_missing_consumer_is_told(bus: Bus, pulls: Pulls) -> None:
    """Where it never was, and where it was removed while a pull waited."""
    await pulls.puller.ask("c", 1, 60.0)
    await eventually(lambda: pulls.ended == [("c", True)])
    await pulls.puller.ask("a", 1, 60.0)

    async def waits() -> bool:
        return (await bus.consumer_info("WORK", "a"))["num_waiting"] == 1

    await eventually(waits)
    await bus.delete_consumer("WORK", "a")
    await eventually(lambda: pulls.ended == [("c", True), ("a", True)])


async def test_pulls_end_when_the_server_is_restarted(
    bus: Bus, pulls: Pulls, nats_server: NatsServer
) -> None:
    """Whoever asks again gets what is there."""
    await pulls.puller.ask("a", 1, 60.0)
    await pulls.puller.ask("b", 1, 60.0)
    nats_server.restart()
    await eventually(lambda: sorted(pulls.ended) == [("a", False), ("b", False)])
    await _store(bus, "a", 1)
    await pulls.puller.ask("a", 1, 60.0)
    await eventually(lambda: pulls.payloads == [b"1"])


async def test_without_a_connection_a_pull_ends_at_once(nats_server: NatsServer) -> None:
    """Nothing is kept to be sent later."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        pulls = await Pulls(bus).open()
        nats_server.kill()

        async def is_down() -> bool:
            try:
                await bus.check()
            except DependencyUnavailable:
                return True
            return False

        await eventually(is_down)
        await pulls.puller.ask("a", 1, 60.0)
        assert pulls.ended == [("a", False)]


async def test_a_pull_whose_end_is_never_told_ends(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A connection that looks alive and brings nothing holds no pull for long."""
    monkeypatch.setattr(bus_puller, "_LATE_SECONDS", 0.05)
    async with (
        FaultProxy(nats_server.port) as proxy,
        await Bus.connect(f"nats://127.0.0.1:{proxy.port}", name="far") as far,
    ):
        pulls = await Pulls(far).open()
        proxy.swallow_answers = True
        await pulls.puller.ask("a", 1, 0.1)
        pulls.puller.end_overdue()
        assert pulls.ended == []

        def has_ended() -> bool:
            pulls.puller.end_overdue()
            return pulls.ended == [("a", False)]

        await eventually(has_ended)
        proxy.swallow_answers = False
        await _store(bus, "a", 1)
        await pulls.puller.ask("a", 1, 60.0)
        await eventually(lambda: b"1" in pulls.payloads)


async def test_after_a_restart_what_former_pulls_bring_comes_by_another(
    bus: Bus, pulls: Pulls
) -> None:
    """They have all ended; nothing is lost."""
    await pulls.puller.ask("a", 1, 60.0)
    await pulls.puller.restart()
    assert pulls.ended == [("a", False)]
    await _store(bus, "a", 1)
    await pulls.puller.ask("a", 1, 60.0)
    await eventually(lambda: pulls.payloads == [b"1"])


async def test_what_is_on_its_way_arrives_before_closing(bus: Bus, pulls: Pulls) -> None:
    """Nothing that the server sent is dropped; it brings nothing after that."""
    await _store(bus, "a", *range(50))
    await pulls.puller.ask("a", 50, 60.0)
    await asyncio.wait_for(pulls.puller.close(), 60)
    taken = len(pulls.taken)
    info = await bus.consumer_info("WORK", "a")
    assert info["num_ack_pending"] == taken


async def test_a_listener_hears_and_says_when_it_may_have_missed_something(
    bus: Bus, nats_server: NatsServer
) -> None:
    """Signals are told by their subject; after a reconnect some may be lost."""
    heard: list[str] = []
    missed: list[bool] = []
    listener = await bus.listen("said.>", heard.append, missed=lambda: missed.append(True))
    await bus.signal("said.one", b"")
    await eventually(lambda: heard == ["said.one"])
    nats_server.restart()
    await eventually(lambda: missed)
    await bus.signal("said.two", b"")
    await eventually(lambda: heard == ["said.one", "said.two"])
    await listener.close()
    await bus.signal("said.three", b"")
    await bus.stream_info("WORK")
    assert heard == ["said.one", "said.two"]
