"""`agentmesh audit` on the stores of a mesh: what it prints, and how it exits."""

import asyncio
import io
import json
import re
from collections.abc import Sequence
from contextlib import aclosing
from datetime import UTC, datetime, timedelta
from typing import Any, cast

import pytest
from click.testing import CliRunner, Result

from agentmesh.common.v1 import tier_pb2
from audit.report import Report
from audit.written_log import written
from cli import audit_calls
from cli.app import app
from cli.terminal import Terminal
from cli.wording import zoned_moment
from meshkit import redis_store
from meshkit.bus import Bus, ConsumerSpec
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from tasklog.partitions import WHOLE
from tasklog.subjects import Queue

pytest_plugins = ["meshtest.fixtures"]

_QUEUE = Queue("acme", tier_pb2.LANE_STANDARD, 0)


def _store(
    nats: NatsServer, *kinds: str, without: Sequence[int] = (), just_now: bool = False
) -> None:
    """A log in a broker, and the queue of its tenant; `without` the events of these numbers."""

    async def store() -> None:
        async with await Bus.connect(nats.url, name="test") as bus:
            await bus.ensure_stream(WHOLE.stream_spec())
            for entry in written(*kinds):
                if entry.event.sequence not in without:
                    if just_now:
                        entry.event.time.GetCurrentTime()
                    subject = f"task.acme.t1.{entry.token}"
                    payload = entry.event.SerializeToString()
                    await bus.publish(subject, payload, message_id=f"{entry.stream_sequence}")
            await bus.ensure_consumer(
                ConsumerSpec(
                    stream=WHOLE.stream,
                    durable=_QUEUE.durable,
                    subject_filter=WHOLE.of_queue(_QUEUE),
                    acknowledge_wait_seconds=3,
                    max_acknowledge_pending=8,
                    description="A queue.",
                )
            )

    asyncio.run(store())


def _run(nats: NatsServer, redis: RedisServer, *arguments: str) -> Result:
    given = ["audit", "--nats", nats.url, "--redis", redis.url, *arguments]
    return CliRunner().invoke(app, given, prog_name="agentmesh")


def test_a_mesh_that_keeps_its_promises_passes(
    nats_server: NatsServer, redis_server: RedisServer
) -> None:
    """It says what it looked at, and exits with 0."""
    _store(nats_server, "submitted")
    result = _run(nats_server, redis_server)
    assert result.exit_code == 0, result.output
    lines = result.stdout.splitlines()
    assert lines[0] == "Tenant      all"
    assert lines[1] == "Tasks       1 QUEUED"
    assert lines[2].startswith("Events      1 (")
    assert re.fullmatch(
        r"Every invariant holds, looked at until \d{4}-\d\d-\d\d \d\d:\d\d:\d\d [+-]\d\d:\d\d\.",
        lines[-1],
    )


def test_an_empty_mesh_passes(nats_server: NatsServer, redis_server: RedisServer) -> None:
    """Nothing was accepted, so nothing is lost."""
    result = _run(nats_server, redis_server, "--json")
    assert result.exit_code == 0, result.output
    document = json.loads(result.stdout)
    assert (document["clean"], document["horizon"], document["tasks"]) == (True, 0, {})


def test_what_is_too_recent_to_be_judged_is_told() -> None:
    """With its number and since when, so that nobody takes it for proven."""
    until = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
    report = Report(
        horizons={"TASKS": 7},
        looked_at_until=until,
        tenant="",
        findings=(),
        findings_left_off=0,
        tasks={},
        counts={"charged_steps": 2, "recent_steps": 1200, "charges": 3, "recent_settlements": 1},
        remarks=(),
        seconds=0.5,
    )
    out = io.StringIO()
    audit_calls.show(Terminal(as_json=False, out=out), report)
    assert out.getvalue().splitlines()[-2:] == [
        f"Too recent to be judged, after {zoned_moment(until - timedelta(minutes=1))}:"
        " 1,200 steps with a cost and 1 charge against the counters. Audit again in a minute.",
        f"Every invariant holds, looked at until {zoned_moment(until)}.",
    ]


def test_a_step_of_just_now_needs_no_charge_yet(
    nats_server: NatsServer, redis_server: RedisServer
) -> None:
    """It is counted as too recent, and not among those that were looked at."""
    _store(nats_server, "submitted", "started", "model_called", just_now=True)
    document = json.loads(_run(nats_server, redis_server, "--json").stdout)
    assert document["counts"]["recent_steps"] == 1
    assert not document["counts"].get("charged_steps")
    assert document["judged_until"] < document["looked_at_until"]


def test_a_broken_promise_fails_and_is_named(
    nats_server: NatsServer, redis_server: RedisServer
) -> None:
    """Invariant, tenant, task, sequences, what is wrong, and what to do; the exit code is 1."""
    _store(nats_server, "submitted", "started", "waiting", without=[2])
    result = _run(nats_server, redis_server)
    assert result.exit_code == 1, result.output
    rows = [line.split(maxsplit=5) for line in result.stdout.splitlines()]
    assert [
        *("replay", "acme", "t1", "1", "2"),
        "Event 3 (waiting) stands where event 2 belongs.",
    ] in rows


def test_a_script_gets_one_document(nats_server: NatsServer, redis_server: RedisServer) -> None:
    """With every finding in parts, and of the tenant that was asked for alone."""
    _store(nats_server, "submitted", "started", "retried", without=[2])
    result = _run(nats_server, redis_server, "--json", "--tenant", "acme")
    assert result.exit_code == 1, result.output
    document = json.loads(result.stdout)
    assert (document["clean"], document["tenant"], document["findings_left_off"]) == (
        False,
        "acme",
        0,
    )
    (finding,) = document["findings"]
    assert (finding["invariant"], finding["task"], finding["stream_sequences"]) == (
        "replay",
        "t1",
        [1, 2],
    )
    other = _run(nats_server, redis_server, "--json", "--tenant", "other")
    assert (other.exit_code, json.loads(other.stdout)["tasks"]) == (0, {})


def test_counters_may_be_in_a_redis_of_their_own(
    nats_server: NatsServer, redis_server: RedisServer, shared_redis: RedisServer
) -> None:
    """They are looked at where they are said to be."""
    counter = "session:acme:s1:lifetime:0"

    async def count() -> None:
        async with aclosing(redis_store.connect(shared_redis.url)) as redis:
            fields = {"spent": 5, "reserved": 0, "written": 0}
            await cast(Any, redis).hset(f"governor:{{spend}}:{counter}", mapping=fields)

    asyncio.run(count())
    assert _run(nats_server, redis_server).exit_code == 0
    result = _run(nats_server, redis_server, "--counters", shared_redis.url, "--json")
    (finding,) = json.loads(result.stdout)["findings"]
    assert finding["sentence"] == (
        f"The counter {counter} has 5 micro-dollars spent, and the journal 0."
    )


@pytest.mark.parametrize(
    ("arguments", "message"),
    [
        (
            ["--nats", "nats://127.0.0.1:1"],
            "error: --nats and --redis belong together: give both, or none.\n",
        ),
        (
            ["--counters", "redis://127.0.0.1:1"],
            "error: --nats and --redis belong together: give both, or none.\n",
        ),
        (
            ["--gateway", "127.0.0.1:8080"],
            "error: An audit reads the stores, and a gateway does not lead to them. Name them with"
            " --nats and --redis.\n",
        ),
    ],
)
def test_half_an_address_is_refused(arguments: list[str], message: str) -> None:
    """It says what to give instead."""
    result = CliRunner().invoke(app, ["audit", *arguments], prog_name="agentmesh")
    assert (result.exit_code, result.stderr) == (2, message)
