"""Staging's counters have a Redis of their own, which may be killed, lost, and lose its power."""

import asyncio
import itertools
import os
import shutil
import signal
from contextlib import aclosing
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, cast

import yaml

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import budget_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1.cost_governor_service_pb2_grpc import CostGovernorServiceStub
from audit import api as audit
from meshkit import identity, redis_store
from meshkit.bus import Bus
from meshkit.client import Channels
from meshkit.errors import DeadlineExceeded, DependencyUnavailable
from meshkit.identity import Identity
from meshtest.eventually import eventually
from meshtest.everywhere import Everywhere
from tests.audit.later_clock import LaterClock
from tests.mesh.small_mesh import alive, pid_of
from tier import api
from tier.api import MeshOptions, MeshState, Tier

_COUNTERS: Final = "redis-counters"
_TENANT: Final = "acme"
# 1,000 tokens each way of this model cost 0.018 dollars.
_MODEL: Final = "claude-sonnet-4-5"
_TOKENS: Final = 1_000
_RESERVED_MICROS: Final = 18_000
_AT_ONCE: Final = 8
_TIMEOUT_SECONDS: Final = 10.0
_WITHIN_SECONDS: Final = 60.0
_PAUSE_SECONDS: Final = 0.05


@dataclass
class _Callers:
    """Call as fast as they are answered, and repeat what was not. Nothing else may go wrong."""

    governor: CostGovernorServiceStub
    # What each call was told that it cost, by its key.
    charged: dict[str, int] = field(default_factory=dict[str, int])
    enough: bool = False

    async def run(self) -> None:
        """Until they have had enough."""
        with identity.use(Identity(_TENANT, "user:test")):
            async with asyncio.TaskGroup() as group:
                for number in range(_AT_ONCE):
                    group.create_task(self._call(number))

    async def _call(self, caller: int) -> None:
        for number in itertools.count():
            if self.enough:
                return
            key = f"call-{caller}-{number}"
            await self.admit(key)
            await self._settle(key)

    async def admit(self, key: str) -> None:
        """Reserves a call."""
        asked = pb.AdmitRequest(
            parent=f"tenants/{_TENANT}",
            key=key,
            model=_MODEL,
            input_tokens=_TOKENS,
            max_output_tokens=_TOKENS,
        )
        admitted = await self._insist(self.governor.Admit, asked)
        assert admitted.decision == budget_pb2.DECISION_ALLOW
        assert admitted.reservation.key == key

    async def _settle(self, key: str) -> None:
        made = pb.SettleRequest(
            parent=f"tenants/{_TENANT}",
            key=key,
            model=_MODEL,
            usage=usage_pb2.Usage(input_tokens=_TOKENS, output_tokens=1, model_calls=1),
        )
        made.call_time.GetCurrentTime()
        self.charged[key] = (await self._insist(self.governor.Settle, made)).cost_micros

    async def _insist(self, ask: Any, request: Any) -> Any:
        while True:
            try:
                return await ask(request, timeout=_TIMEOUT_SECONDS)
            except (DependencyUnavailable, DeadlineExceeded):
                await asyncio.sleep(_PAUSE_SECONDS)

    async def today(self) -> pb.SpendWindow:
        """What the counters say of it, once they say it."""
        request = pb.GetSpendRequest(parent=f"tenants/{_TENANT}")

        async def told() -> pb.SpendWindow | None:
            with identity.use(Identity(_TENANT, "user:test")):
                try:
                    return (await self.governor.GetSpend(request, timeout=5)).day
                except (DependencyUnavailable, DeadlineExceeded):
                    return None

        day = await eventually(told, _WITHIN_SECONDS)
        assert day is not None
        return day


def _options(folder: Path) -> MeshOptions:
    config = folder / "mesh.yaml"
    # As the gateway knows everybody.
    config.write_text(yaml.safe_dump({"governor": {"spenders": ["user:anonymous"]}}), "utf-8")
    return MeshOptions(
        tier=Tier.STAGING, data_dir=folder / "data", port=0, no_auth=True, config=config
    )


def _url(state: MeshState, name: str) -> str:
    (port,) = (each.ports[0] for each in state.processes if each.name == name)
    return f"redis://127.0.0.1:{port}"


async def _keys(state: MeshState, name: str) -> set[str]:
    """The first words of the keys in a Redis."""
    async with aclosing(redis_store.connect(_url(state, name))) as redis:
        return {str(key, "utf-8").partition(":")[0] for key in await cast(Any, redis).keys("*")}


async def _kill(options: MeshOptions, callers: _Callers, *, lose: bool = False) -> None:
    """Kills the counters' Redis, and returns when calls are charged again."""
    state = api.read_state(options.data_dir)
    assert state is not None
    if lose:
        shutil.rmtree(options.data_dir / _COUNTERS / "appendonlydir")
    before = pid_of(state, _COUNTERS)
    os.kill(before, signal.SIGKILL)

    async def back() -> bool:
        now = api.read_state(options.data_dir)
        assert now is not None
        return pid_of(now, _COUNTERS) != before

    await eventually(back, _WITHIN_SECONDS)
    count = len(callers.charged)
    await eventually(lambda: len(callers.charged) > count, _WITHIN_SECONDS)


def _cut_power(options: MeshOptions, state: MeshState) -> None:
    """Ends all processes at once; whoever looks finds that the machine was started anew."""
    os.kill(state.pid, signal.SIGKILL)
    (options.data_dir / _COUNTERS / "boot").write_text("of the day before", "ascii")


async def _audited(state: MeshState) -> None:
    async with (
        aclosing(redis_store.connect(_url(state, "redis"))) as redis,
        aclosing(redis_store.connect(_url(state, _COUNTERS))) as counters,
        await Bus.connect(_url(state, "nats").replace("redis", "nats"), name="audit") as bus,
    ):
        report = await audit.run(
            bus, redis, counters=counters, ledger=api.own_ledger(state), clock=LaterClock()
        )
    assert report.findings == ()
    assert report.counts["counters"] > 0


async def test_counters_are_whole_whatever_becomes_of_their_redis(tmp_path: Path) -> None:
    """Killed, lost, or cut off its power with a part missing: callers repeat, and sums agree."""
    options = _options(tmp_path)
    state = api.start_detached(options, lambda _: None)
    try:
        says = {each.name: each.detail for each in await api.status(state)}
        assert says["redis"] == "append-only file, flushed to disk at every write"
        assert says[_COUNTERS] == (
            "append-only file; after a power cut counters are opened from the ledger"
        )
        async with Channels(Everywhere(state.address), caller="user:test") as channels:
            callers = _Callers(CostGovernorServiceStub(channels.get("gateway")))
            calling = asyncio.create_task(callers.run())
            await eventually(lambda: len(callers.charged) >= _AT_ONCE, _WITHIN_SECONDS)
            assert "governor" in await _keys(state, _COUNTERS)
            assert "governor" not in await _keys(state, "redis")
            with identity.use(Identity(_TENANT, "user:test")):
                await callers.admit("held")
            await _kill(options, callers)
            assert (await callers.today()).reserved_micros >= _RESERVED_MICROS
            await _kill(options, callers, lose=True)
            callers.enough = True
            await calling
            spent = (await callers.today()).spent_micros
            assert spent == sum(callers.charged.values())
        now = api.read_state(options.data_dir)
        assert now is not None
        await _audited(now)
        # What a file without its end may say: some of the last calls are not counted.
        async with aclosing(redis_store.connect(_url(now, _COUNTERS))) as redis:
            (counter,) = await cast(Any, redis).keys(f"governor:*tenant:{_TENANT}::day:*")
            await cast(Any, redis).hincrby(counter, "spent", -18)
        _cut_power(options, now)
        await eventually(lambda: not alive([each.pid for each in now.processes]), _WITHIN_SECONDS)

        state = api.start_detached(options, lambda _: None)
        async with Channels(Everywhere(state.address), caller="user:test") as channels:
            again = _Callers(CostGovernorServiceStub(channels.get("gateway")))
            assert (await again.today()).spent_micros == spent
        await _audited(state)
    finally:
        api.stop_detached(options.data_dir, lambda _: None)
