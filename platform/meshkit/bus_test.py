"""Tests of streams, direct reads, signals and blobs against a real server."""

import asyncio
from collections.abc import AsyncIterator
from datetime import UTC, datetime, timedelta

import pytest

from meshkit import bus_link, bus_subscription, deadline
from meshkit.bus import Bus, ConsumerSpec, StreamSpec
from meshkit.errors import Conflict, CorruptData, DependencyUnavailable, QueueFull, TooLarge
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.proxy import FaultProxy

pytest_plugins = ["meshtest.fixtures"]

_TASKS = StreamSpec(
    name="TASKS", subjects=("task.>",), description="Tests.", republish=("task.>", "live.task.>")
)


@pytest.fixture
async def bus(nats_server: NatsServer) -> AsyncIterator[Bus]:
    """A bus with the stream TASKS."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_TASKS)
        yield bus


async def test_an_append_is_refused_after_somebody_elses(bus: Bus) -> None:
    """Of two appends that expect the same last sequence, one is stored and one is a Conflict."""
    assert await bus.append("task.a.1", b"one", expected_last=0) == 1
    with pytest.raises(Conflict, match=r"^Somebody else wrote to task\.a\.1 after 0: "):
        await bus.append("task.a.1", b"two", expected_last=0)
    assert await bus.append("task.a.1", b"two", expected_last=1) == 2


async def test_an_append_can_be_compared_over_a_scope(bus: Bus) -> None:
    """With a scope, any subject in it counts, and no other does."""
    await bus.append("task.a.1.log", b"one", expected_last=0, scope="task.a.1.>")
    await bus.append("task.a.2.log", b"other task", expected_last=0, scope="task.a.2.>")
    with pytest.raises(Conflict):
        await bus.append("task.a.1.control", b"two", expected_last=0, scope="task.a.1.>")
    last = await bus.append("task.a.1.control", b"two", expected_last=1, scope="task.a.1.>")
    assert last == 3


async def test_many_writers_of_one_subject_leave_one_line(bus: Bus) -> None:
    """Whoever races, each sequence is built on by one writer only."""

    async def race(writer: int) -> int:
        try:
            return await bus.append("task.a.1", b"%d" % writer, expected_last=0)
        except Conflict:
            return 0

    outcomes = await asyncio.gather(*(race(writer) for writer in range(50)))
    assert sorted(outcomes)[-2:] == [0, 1]


async def test_a_repeated_message_id_is_stored_once(bus: Bus) -> None:
    """Publishing the same message id again gives the first one's sequence."""
    first = await bus.publish("task.a.1", b"one", message_id="m1")
    assert await bus.publish("task.a.1", b"one", message_id="m1") == first
    assert [each.payload async for each in bus.read("TASKS", "task.>")] == [b"one"]


async def test_the_last_message_over_a_filter(bus: Bus) -> None:
    """`last` takes a subject or a filter, and gives None where nothing matches."""
    await bus.publish("task.a.1.log", b"one", message_id="1", headers={"kind": "x"})
    await bus.publish("task.a.1.control", b"two", message_id="2")
    one = await bus.last("TASKS", "task.a.1.log")
    assert one is not None
    assert (one.subject, one.sequence, one.payload) == ("task.a.1.log", 1, b"one")
    assert one.headers == {"kind": "x", "Nats-Msg-Id": "1"}
    assert abs(one.time - datetime.now(UTC)) < timedelta(seconds=10)
    both = await bus.last("TASKS", "task.a.1.>")
    assert both is not None
    assert both.payload == b"two"
    assert await bus.last("TASKS", "task.a.2.>") is None


async def test_reading_goes_on_over_batches(bus: Bus) -> None:
    """All matching messages come in order, however many batches it takes."""
    for number in range(25):
        await bus.publish(f"task.a.{number % 2}", b"%d" % number, message_id=str(number))
    even = [int(each.payload) async for each in bus.read("TASKS", "task.a.0", batch=4)]
    assert even == list(range(0, 25, 2))
    later = [each.sequence async for each in bus.read("TASKS", "task.>", start_sequence=24)]
    assert later == [24, 25]
    assert [each async for each in bus.read("TASKS", "task.b.>")] == []


async def test_reading_a_narrow_filter_merges_its_subjects(bus: Bus) -> None:
    """The subjects of one scope come as one line, in the order in which they were stored."""
    leaves = ["interactive", "log", "log", "interactive", "log"]
    for number, leaf in enumerate(leaves):
        await bus.publish(f"task.a.1.{leaf}", b"%d" % number, message_id=f"1-{number}")
        await bus.publish(f"task.a.2.{leaf}", b"other", message_id=f"2-{number}")
    for scope in ("task.a.1.*", "task.a.1.>"):
        events = [each async for each in bus.read("TASKS", scope, batch=2)]
        assert [int(each.payload) for each in events] == [0, 1, 2, 3, 4]
        assert [each.subject.rsplit(".", 1)[1] for each in events] == leaves
    later = [each async for each in bus.read("TASKS", "task.a.1.*", start_sequence=6)]
    assert [int(each.payload) for each in later] == [3, 4]
    assert [each async for each in bus.read("TASKS", "task.a.3.*")] == []


async def test_a_filter_of_many_subjects_is_read_all_the_same(bus: Bus) -> None:
    """A filter that matches more subjects than are worth merging gives every message."""
    for number in range(70):
        await bus.publish(f"task.a.{number}", b"", message_id=str(number))
    assert len([each async for each in bus.read("TASKS", "task.a.*")]) == 70


async def test_a_message_over_the_limit_is_too_large(bus: Bus) -> None:
    """A message over the server's limit is refused before it is sent, headers included."""
    with pytest.raises(TooLarge, match=r"over the limit of 1048576 bytes") as caught:
        await bus.publish("task.a.1", bytes(1 << 20), message_id="1")
    assert caught.value.metadata["limit_bytes"] == "1048576"
    await bus.check()


async def test_a_full_stream_that_refuses_is_a_full_queue(bus: Bus) -> None:
    """A stream that refuses when full answers QueueFull with a time to come back."""
    await bus.ensure_stream(
        StreamSpec("SMALL", ("small.>",), "Tests.", max_bytes=2000, refuse_when_full=True)
    )
    await bus.publish("small.1", bytes(1500), message_id="1")
    with pytest.raises(QueueFull) as caught:
        await bus.publish("small.2", bytes(1500), message_id="2")
    assert caught.value.retry_after_seconds == 1.0


async def test_a_stream_can_be_ensured_again_with_other_limits(bus: Bus) -> None:
    """Ensuring a stream that is there updates it and keeps its messages."""
    await bus.publish("task.a.1", b"one", message_id="1")
    await bus.ensure_stream(StreamSpec("TASKS", ("task.>",), "Other.", max_age_seconds=3600))
    info = await bus.stream_info("TASKS")
    assert info is not None
    assert info["config"]["max_age"] == 3600 * 10**9
    assert info["state"]["messages"] == 1
    assert await bus.stream_info("NONE") is None


async def test_one_consumer_too_many_is_a_full_queue(bus: Bus) -> None:
    """It is accepted once the stream, which is there, was ensured with more room."""
    one, two = (ConsumerSpec("FEW", name, f"few.{name}", 1.0, 1, "Tests.") for name in "ab")
    await bus.ensure_stream(StreamSpec("FEW", ("few.>",), "Tests.", max_consumers=1))
    await bus.ensure_consumer(one)
    with pytest.raises(QueueFull, match=r"^Failed to create consumer b: maximum consumers"):
        await bus.ensure_consumer(two)
    await bus.ensure_stream(StreamSpec("FEW", ("few.>",), "Tests.", max_consumers=2))
    await bus.ensure_consumer(two)


async def test_a_subject_without_a_stream_is_unavailable_at_the_deadline(bus: Bus) -> None:
    """Publishing is tried until the caller's deadline, and then DependencyUnavailable."""
    with (
        deadline.limit(0.3),
        pytest.raises(
            DependencyUnavailable, match=r"^Failed to publish to nowhere.1 after \d+ tries: "
        ),
    ):
        await bus.publish("nowhere.1", b"", message_id="1")


async def test_subscribers_hear_what_is_stored_and_signalled(bus: Bus) -> None:
    """A republished message carries its sequence; a signal carries none."""
    stored = await bus.subscribe("live.task.>")
    signals = await bus.subscribe("signal.>")
    await bus.publish("task.a.1", b"one", message_id="1")
    await bus.signal("signal.x", b"two", {"key": "value"})
    heard = await anext(stored)
    assert (heard.subject, heard.sequence, heard.payload) == ("task.a.1", 1, b"one")
    signalled = await anext(signals)
    assert (signalled.subject, signalled.sequence) == ("signal.x", 0)
    assert signalled.headers == {"key": "value"}
    await stored.close()
    assert [each async for each in stored] == []


async def test_a_slow_subscriber_is_told(bus: Bus) -> None:
    """Who falls behind by more than the buffer gets QueueFull, not a gap."""
    slow = await bus.subscribe("signal.>", max_waiting=2)
    for _ in range(5):
        await bus.signal("signal.x", b"")
    await eventually(lambda: slow.dropped == 3)
    with pytest.raises(QueueFull, match=r"fell behind by 3 messages"):
        await anext(slow)


async def test_blobs_are_kept_once_by_their_digest(bus: Bus) -> None:
    """Equal content of one owner gives the equal reference, and is read back whole."""
    content = bytes(range(256)) * 2000
    one, two = await asyncio.gather(
        bus.put_blob("a.t1", content, "application/x"),
        bus.put_blob("a.t1", content, "application/x"),
    )
    assert one == two
    assert (one.size_bytes, one.media_type) == (512_000, "application/x")
    assert await bus.get_blob("a.t1", one) == content
    info = await bus.stream_info("OBJ_blobs")
    assert info is not None
    assert info["state"]["messages"] == 4 + 1
    empty = await bus.put_blob("a.t1", b"", "text/plain")
    assert await bus.get_blob("a.t1", empty) == b""


async def test_a_missing_blob_is_data_loss(bus: Bus) -> None:
    """Content that is not there is CorruptData, as is a reference that is no digest."""
    reference = await bus.put_blob("a.t1", b"x", "text/plain")
    await bus.delete_blob("a.t1", reference.digest)
    with pytest.raises(CorruptData, match="There is no content"):
        await bus.get_blob("a.t1", reference)
    reference.digest = "*"
    with pytest.raises(CorruptData, match="There is no content"):
        await bus.get_blob("a.t1", reference)


async def test_owners_of_blobs_share_nothing(bus: Bus) -> None:
    """Equal content of two owners is kept twice: one's end takes nothing from the other."""
    shared = await bus.put_blob("a.t1", b"x", "text/plain")
    own = await bus.put_blob("a.t1", b"", "text/plain")
    assert await bus.put_blob("a.t2", b"x", "text/plain") == shared
    with pytest.raises(CorruptData, match=r"There is no content of b\.t1"):
        await bus.get_blob("b.t1", shared)
    for _ in range(2):  # the second time there is nothing left to do
        await bus.delete_blobs("a.t1")
    for gone in (shared, own):
        with pytest.raises(CorruptData, match=r"There is no content of a\.t1"):
            await bus.get_blob("a.t1", gone)
    assert await bus.get_blob("a.t2", shared) == b"x"
    assert len(await bus.subjects("OBJ_blobs", "$O.blobs.>")) == 2
    await bus.delete_blobs("a.t2")
    assert not await bus.subjects("OBJ_blobs", "$O.blobs.>")


async def test_messages_are_removed_up_to_a_sequence(bus: Bus) -> None:
    """What the filter matches goes; that sequence itself and what follows stays, as do others."""
    await bus.ensure_stream(StreamSpec(name="T", subjects=("item.>",), description="test"))
    for number, subject in enumerate(("a.1", "b.1", "a.2", "a.1")):
        await bus.publish(f"item.{subject}", b"", message_id=str(number))
    assert await bus.purge("T", "item.a.*", before_sequence=4) == 2
    assert [each.sequence async for each in bus.read("T", "item.>")] == [2, 4]


async def test_a_restart_of_the_server_is_sat_out(bus: Bus, nats_server: NatsServer) -> None:
    """Publishing and reading go on after the server was killed; nothing is lost or doubled."""

    async def write(number: int) -> int:
        return await bus.append(f"task.a.{number}", b"x", expected_last=0)

    await asyncio.gather(*(write(number) for number in range(100)))
    nats_server.kill()
    with pytest.raises(DependencyUnavailable):
        await _checked(bus)
    under_way = [asyncio.ensure_future(write(number)) for number in range(100, 150)]
    nats_server.start()
    await asyncio.gather(*under_way)
    await bus.check()
    assert len([each async for each in bus.read("TASKS", "task.>")]) == 150


async def _checked(bus: Bus) -> None:
    while True:
        await bus.check()
        await asyncio.sleep(0.001)


async def test_an_append_whose_acknowledgement_was_lost_counts_as_stored(
    nats_server: NatsServer,
) -> None:
    """The try that was stored is recognised by its message id, whoever wrote after it."""
    async with (
        FaultProxy(nats_server.port) as proxy,
        await Bus.connect(f"nats://127.0.0.1:{proxy.port}", name="far") as far,
        await Bus.connect(nats_server.url, name="near") as near,
    ):
        await near.ensure_stream(_TASKS)
        proxy.swallow_answers = True
        appending = asyncio.ensure_future(
            far.append("task.a.1.log", b"mine", expected_last=0, scope="task.a.1.>")
        )

        async def stored() -> bool:
            return await near.last("TASKS", "task.a.1.log") is not None

        await eventually(stored)
        await near.append("task.a.1.log", b"later", expected_last=1, scope="task.a.1.>")
        proxy.swallow_answers = False
        proxy.cut()
        assert await appending == 1
        payloads = [each.payload async for each in near.read("TASKS", "task.a.1.>")]
        assert payloads == [b"mine", b"later"]


async def test_a_subscriber_can_be_told_of_gaps(nats_server: NatsServer) -> None:
    """After a reconnect the iterator goes on, or raises where that was asked for."""
    async with (
        FaultProxy(nats_server.port) as proxy,
        await Bus.connect(f"nats://127.0.0.1:{proxy.port}", name="far") as bus,
    ):
        patient = await bus.subscribe("signal.>")
        careful = await bus.subscribe("signal.>", raise_on_gap=True)
        proxy.cut()
        with pytest.raises(DependencyUnavailable, match="may have been missed"):
            await anext(careful)
        await bus.signal("signal.x", b"again")
        assert (await anext(patient)).payload == b"again"
        assert patient.gaps == 1


async def test_nobody_there_is_told_at_the_start() -> None:
    """Connecting to a server that is not there fails with its address."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr(bus_link, "_CONNECT_SECONDS", 0.3)
        with pytest.raises(
            DependencyUnavailable, match=r"^Failed to connect to NATS at nats://127.0.0.1:1"
        ):
            await Bus.connect("nats://127.0.0.1:1", name="test")


async def test_listening_while_the_server_is_away_is_unavailable(
    bus: Bus, nats_server: NatsServer, monkeypatch: pytest.MonkeyPatch
) -> None:
    """A subscription that the server does not confirm fails, and leaves nothing behind."""
    monkeypatch.setattr(bus_subscription, "_FLUSH_SECONDS", 0.1)
    nats_server.kill()
    with pytest.raises(DependencyUnavailable):
        await _checked(bus)
    with pytest.raises(DependencyUnavailable, match=r"^Failed to listen to signal\.>\.$"):
        await bus.subscribe("signal.>")
