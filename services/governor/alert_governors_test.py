"""Whole governors: spending over a budget fires each alert once, whoever is killed meanwhile."""

import asyncio
import base64
import json
import os
import random
import socket
import sys
from collections import Counter
from collections.abc import Iterator
from contextlib import AsyncExitStack, suppress
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from agentmesh.common.v1 import tier_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity
from meshkit.client import Channels
from meshkit.errors import MeshError
from meshkit.identity import Identity
from meshtest.child_server import ChildServer
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from services.governor.alert_receiver import Receiver

pytest_plugins = ["meshtest.fixtures"]

_ACME = "tenants/acme"
_DAY = f"{_ACME}/budgets/tenant-day"
_SECRET = "whsec_" + base64.b64encode(bytes(range(32))).decode()
# 1,000 tokens each way of this model are 18,000 micro-USD.
_MODEL = "claude-sonnet-4-5"
_CALL_MICROS = 18_000
_CALLS = 40
_KILLS = (12, 30)
_TRIES = 200


class _Governors:
    """Two processes on one data directory, of which at least one is there to be called."""

    def __init__(self, nats: NatsServer, redis: RedisServer, folder: Path) -> None:
        self._settings: dict[str, Any] = {
            "nats_url": nats.url,
            "redis_url": redis.url,
            "data_dir": str(folder / "data"),
            "governor": {
                "alert_webhooks": {
                    "pager": {"url": "", "secret_env": "PAGER_SECRET", "timeout_seconds": 10}
                }
            },
        }
        self._folder = folder
        self.servers = [self._server(name) for name in "ab"]

    def start(self, webhook_url: str) -> None:
        """Starts both."""
        self._settings["governor"]["alert_webhooks"]["pager"]["url"] = webhook_url
        for each in self.servers:
            each.start()

    def kill(self) -> None:
        """Ends both."""
        for each in self.servers:
            each.kill()

    def _server(self, name: str) -> ChildServer:
        def command(port: int) -> list[str | Path]:
            path = self._folder / f"{name}.yaml"
            settings = {**self._settings, "address": f"127.0.0.1:{port}", "instance": name}
            path.write_text(json.dumps(settings), "utf-8")
            return [
                *("/usr/bin/env", f"PYTHONPATH={os.pathsep.join(sys.path)}"),
                f"PAGER_SECRET={_SECRET}",
                *(sys.executable, "-m", "services.governor.main", "--config", path),
            ]

        return ChildServer(command, log_path=self._folder / f"{name}.log", answers=_answers)


def _answers(port: int) -> bool:
    with suppress(OSError), socket.create_connection(("127.0.0.1", port), timeout=1):
        return True
    return False


@pytest.fixture
def governors(
    nats_server: NatsServer, redis_server: RedisServer, tmp_path: Path
) -> Iterator[_Governors]:
    made = _Governors(nats_server, redis_server, tmp_path)
    yield made
    made.kill()


class _Caller:
    """Calls one governor or the other until one answers."""

    def __init__(self, governors: _Governors, stack: AsyncExitStack) -> None:
        self._governors = governors
        self._stack = stack
        self.stubs: list[Any] = []

    async def open(self) -> None:
        for server in self._governors.servers:
            target = {"governor": f"127.0.0.1:{server.port}"}
            channels = await self._stack.enter_async_context(
                Channels(target, caller="service:test")
            )
            self.stubs.append(pb_grpc.CostGovernorServiceStub(channels.get("governor")))

    async def call(self, name: str, request: Any) -> Any:
        """The answer of whichever governor gives one."""
        error: MeshError | None = None
        for number in range(_TRIES):
            try:
                return await getattr(self.stubs[number % 2], name)(request, timeout=30)
            except MeshError as failure:
                error = failure
                await asyncio.sleep(0.05)
        assert error is not None
        raise error

    async def spend(self, key: str) -> bool:
        """Makes a call; False where it is denied."""
        admitted = await self.call(
            "Admit",
            pb.AdmitRequest(
                parent=_ACME,
                key=key,
                model=_MODEL,
                input_tokens=1000,
                max_output_tokens=1000,
                lane=tier_pb2.LANE_INTERACTIVE,
            ),
        )
        if admitted.decision == budget_pb2.DECISION_DENY:
            return False
        request = pb.SettleRequest(
            parent=_ACME,
            key=admitted.reservation.key,
            model=_MODEL,
            price_version=admitted.price_version,
        )
        request.usage.input_tokens = request.usage.output_tokens = 1000
        request.usage.model_calls = 1
        settled = await self.call("Settle", request)
        assert settled.cost_micros == _CALL_MICROS
        return True

    async def alerts(self) -> list[Any]:
        """All that was told."""
        request = pb.WatchAlertsRequest(parent=_ACME, after_sequence=-1, past_only=True)
        for number in range(_TRIES):
            with suppress(MeshError):
                stream = self.stubs[number % 2].WatchAlerts(request, timeout=30)
                return [each async for each in stream]
        raise AssertionError("no governor answers")


@pytest.mark.parametrize("seed", [1])
async def test_spending_over_a_budget_fires_each_alert_once(
    governors: _Governors, seed: int
) -> None:
    """ALERT, DEGRADE, THROTTLE and SHUTOFF, with governors killed between the calls."""
    chance = random.Random(seed)
    begun = datetime.now(UTC)
    async with AsyncExitStack() as stack:
        receiver = await stack.enter_async_context(Receiver())
        stack.enter_context(identity.use(Identity("acme", "service:test")))
        await asyncio.to_thread(governors.start, receiver.url)
        caller = _Caller(governors, stack)
        await caller.open()
        budget = budget_pb2.Budget(name=_DAY, limit_micros=_CALLS * _CALL_MICROS)
        budget.thresholds.alert_percent = 50
        budget.thresholds.degrade_percent = 70
        budget.thresholds.throttle_percent = 90
        budget.thresholds.shutoff_percent = 100
        await caller.call("SetBudget", pb.SetBudgetRequest(budget=budget, request_id="r"))

        starting: asyncio.Task[None] | None = None
        for number in range(_CALLS):
            if number in _KILLS:
                if starting is not None:
                    await starting
                victim = chance.choice(governors.servers)
                victim.kill()
                starting = asyncio.create_task(asyncio.to_thread(victim.start))
            assert await caller.spend(f"k{number}")
        assert starting is not None
        await starting
        assert not await caller.spend("one more")

        async def all_told() -> bool:
            return len(await caller.alerts()) >= 4

        await eventually(all_told)
        alerts = await caller.alerts()
        await eventually(lambda: len({_id(each) for each in receiver.received}) == 4)

    assert [(each.kind, each.budget) for each in alerts] == [
        (kind, _DAY) for kind in ("ALERT", "DEGRADE", "THROTTLE", "SHUTOFF")
    ]
    assert [each.sequence for each in alerts] == [1, 2, 3, 4]
    assert {_id(each) for each in receiver.received} == {each.id for each in alerts}
    # What was under way when its sender was killed may come again.
    assert max(Counter(_id(each) for each in receiver.received).values()) <= 2
    first, *_, last = alerts
    assert first.spent_micros >= _CALLS * _CALL_MICROS // 2
    assert last.spent_micros == last.limit_micros == _CALLS * _CALL_MICROS
    times = [each.time.ToDatetime(UTC) for each in alerts]
    assert begun <= times[0]
    assert times == sorted(times)


def _id(received: Any) -> str:
    return received.headers["webhook-id"]
