"""What was written while other parts were saved is sorted by the log as it was saved."""

import base64
import json

import pytest

from agentmesh.common.v1.usage_pb2 import Usage
from agentmesh.governor.v1.usage_record_pb2 import UsageRecord, UsageRecords
from audit import usage_jetstream
from audit.log_jetstream import JetStreamLog
from audit.written_log import written
from backup import expired_tasks, late_charges
from backup.late_charges import LogReferee
from meshkit.bus import Bus, StreamSpec
from meshtest.nats_server import NatsServer
from tasklog.partitions import WHOLE, Partitions
from tasklog.task_log import TaskLog

pytest_plugins = ["meshtest.fixtures"]

_USAGE = StreamSpec(usage_jetstream.STREAM, (usage_jetstream.SUBJECT,), "Usage.")


async def _write(bus: Bus, *kinds: str, task: str = "t1", after: int = 0) -> None:
    """Appends the events of a log after those that are there."""
    await bus.ensure_stream(WHOLE.stream_spec())
    for entry in written(*kinds)[after:]:
        entry.event.task = f"tenants/acme/tasks/{task}"
        subject = f"task.acme.{task}.{entry.token}"
        payload = entry.event.SerializeToString()
        await bus.publish(subject, payload, message_id=f"{task}-{entry.event.sequence}")


def _record(key: str, cost_micros: int = 7) -> UsageRecord:
    return UsageRecord(tenant="acme", key=key, usage=Usage(cost_micros=cost_micros))


async def _settle(bus: Bus, *records: UsageRecord) -> None:
    payload = UsageRecords(records=records).SerializeToString()
    await bus.publish(usage_jetstream.SUBJECT, payload, message_id=records[0].key)


async def _keys(bus: Bus) -> list[str]:
    return [
        record.key
        async for message in bus.read(usage_jetstream.STREAM, usage_jetstream.SUBJECT)
        for record in UsageRecords.FromString(message.payload).records
    ]


async def _referee(bus: Bus) -> LogReferee:
    log = JetStreamLog(bus, Partitions())
    await log.horizons()
    return LogReferee(log)


async def test_charges_are_kept_where_the_log_has_come_to(nats_server: NatsServer) -> None:
    """Of its steps, of the one that was under way, and of calls that no task made.

    Those of later steps, of attempts and tasks that it does not have, are left out: they will
    be made again, and charged then.
    """
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_USAGE)
        await _write(bus, "submitted", "started", "model_called")
        await _settle(bus, _record("before"))
        await _settle(
            bus,
            *(_record("t1/1/2"), _record("t1/1/2#2", 9), _record("t1/2/2"), _record("t1/3/2")),
            *(_record("t1/2/5"), _record("t2/1/2"), _record("no-task")),
        )
        lines = [each async for each in late_charges.collect(bus, 1)]
        await bus.purge(usage_jetstream.STREAM, usage_jetstream.SUBJECT)
        # As a journal that was saved before they came.
        for line in lines:
            assert json.loads(line)["sequence"] == 2
        moved = [json.dumps({**json.loads(each), "sequence": 3}).encode() for each in lines]
        assert await late_charges.restore(bus, moved, await _referee(bus)) == 4
        assert await _keys(bus) == ["t1/1/2", "t1/1/2#2", "t1/2/2", "no-task"]


async def test_what_the_journal_has_already_is_not_charged_again(nats_server: NatsServer) -> None:
    """It may have been saved a little later than it was asked for."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await bus.ensure_stream(_USAGE)
        await _write(bus, "submitted", "started", "model_called")
        await _settle(bus, _record("t1/1/2"))
        lines = [each async for each in late_charges.collect(bus, 0)]
        assert await late_charges.restore(bus, lines, await _referee(bus)) == 0
        assert await _keys(bus) == ["t1/1/2"]


async def test_settlements_that_wait_are_sorted_too(nats_server: NatsServer) -> None:
    """By their keys; what is no settlement stays for whoever can read it."""

    def line(key: str) -> bytes:
        return json.dumps({"spending": {"tenant": "acme", "key": key}}).encode() + b"\n"

    async with await Bus.connect(nats_server.url, name="test") as bus:
        await _write(bus, "submitted", "started", "model_called")
        lines = [line("t1/1/2"), line("t1/3/2"), line("t2/1/2"), line("no-task"), b"half"]
        kept = await late_charges.waiting_lines(lines, await _referee(bus))
    assert kept == [line("t1/1/2"), line("no-task"), b"half"]


_ENDED = ("submitted", "started", "completed", "expired")


@pytest.mark.parametrize("saved", [3, 4], ids=["before the mark", "with the mark"])
async def test_a_removal_that_went_on_is_repeated(nats_server: NatsServer, saved: int) -> None:
    """Whatever of a task was saved: what is left is the one event, and others keep theirs."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await _write(bus, *_ENDED[:3])
        await _write(bus, *_ENDED[:3], task="t2")
        info = await bus.stream_info(WHOLE.stream)
        assert info is not None
        await _write(bus, *_ENDED, after=3)
        last = int(info["state"]["last_seq"])
        lines = [each async for each in expired_tasks.collect(bus, WHOLE, last)]
        # The log as it was saved, at another broker's.
        await bus.purge(WHOLE.stream, WHOLE.all_events)
        await _restore(bus, saved)
        assert await expired_tasks.repeat(bus, lines, Partitions().all) == 1
        entries = TaskLog(bus, Partitions())
        assert [each.event.sequence async for each in entries.read("acme", "t1")] == [4]
        assert [each.event.sequence async for each in entries.read("acme", "t2")] == [1, 2, 3]


async def _restore(bus: Bus, saved: int) -> None:
    for task, count in (("t1", saved), ("t2", 3)):
        for entry in written(*_ENDED)[:count]:
            entry.event.task = f"tenants/acme/tasks/{task}"
            payload = entry.event.SerializeToString()
            subject = f"task.acme.{task}.{entry.token}"
            await bus.publish(subject, payload, message_id=f"again-{task}-{entry.event.sequence}")


async def test_tasks_that_stay_are_not_looked_at(nats_server: NatsServer) -> None:
    """Only what retention has marked is in the list, with what came before it in that time."""
    async with await Bus.connect(nats_server.url, name="test") as bus:
        await _write(bus, *_ENDED)
        await _write(bus, *_ENDED[:3], task="t2")
        lines = [each async for each in expired_tasks.collect(bus, WHOLE, 0)]
    said = [json.loads(each) for each in lines]
    assert [(each["subject"].split(".")[2], each["event"]) for each in said] == [
        ("t1", number) for number in (1, 2, 3, 4)
    ]
    assert base64.b64decode(said[0]["payload"])
