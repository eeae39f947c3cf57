"""Tests of WatchAlerts: what is told reaches every watcher once, in order, and nobody else."""

import asyncio
import io
from collections.abc import AsyncGenerator, AsyncIterator
from contextlib import aclosing, suppress
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import identity, log
from meshkit.bus import Bus
from meshkit.errors import DependencyUnavailable, Forbidden, InvalidField
from meshkit.identity import Identity
from meshkit.server import Registration
from meshtest.eventually import eventually
from meshtest.nats_server import NatsServer
from meshtest.serving import serving
from services.governor import alert_stream
from services.governor.alert import Alert, Kind
from services.governor.alert_feed import AlertFeed
from services.governor.alert_service import AlertService

pytest_plugins = ["meshtest.fixtures"]

_NOW = datetime(2026, 11, 20, 15, 30, tzinfo=UTC)
_ACME = "tenants/acme"


class _Operators:
    callers: frozenset[str] = frozenset()

    def require_caller(self, to_do: str) -> None:
        caller = identity.current().caller
        if caller not in self.callers:
            raise Forbidden(f"{caller} is no operator, and only operators may {to_do}.")


class _Servicer(pb_grpc.CostGovernorServiceServicer):
    def __init__(self, alerts: AlertService) -> None:
        self._alerts = alerts

    async def WatchAlerts(
        self, request: pb.WatchAlertsRequest, context: object
    ) -> AsyncIterator[pb.WatchAlertsResponse]:
        async with aclosing(self._alerts.watch(request)) as alerts:
            async for alert in alerts:
                yield alert


class _Mesh:
    """A governor that tells alerts, and callers of it."""

    def __init__(self, bus: Bus, governor: Any, operators: _Operators) -> None:
        self.bus = bus
        self.operators = operators
        self._governor = governor
        self._count = 0

    async def tell(self, tenant: str = "acme", *, text_bytes: int = 0) -> int:
        """One more alert; its sequence."""
        self._count += 1
        alert = Alert.of_budget(
            Kind.ALERT,
            tenant=tenant,
            budget=f"tenants/{tenant}/budgets/agent-day-a{self._count}",
            window_start=_NOW,
            text=f"Number {self._count}." + "x" * text_bytes,
            time=_NOW + timedelta(seconds=self._count),
            spent_micros=self._count,
            limit_micros=100,
        )
        return await self.bus.publish(
            alert_stream.subject(tenant), alert_stream.encode(alert), message_id=alert.id
        )

    def watch(
        self,
        parent: str = _ACME,
        *,
        after: int = -1,
        past_only: bool = False,
    ) -> Any:
        request = pb.WatchAlertsRequest(parent=parent, after_sequence=after, past_only=past_only)
        tenant = parent.partition("/")[2] if parent == _ACME else "globex"
        with identity.use(Identity(tenant, "service:test")):
            return self._governor.WatchAlerts(request, timeout=120)

    async def past(self, parent: str = _ACME, **asked: Any) -> list[int]:
        """The sequences of what there is."""
        return [each.sequence async for each in self.watch(parent, past_only=True, **asked)]


@pytest.fixture
async def mesh(nats_url: str) -> AsyncGenerator[_Mesh]:
    async with await Bus.connect(nats_url, name="test") as bus:
        await bus.ensure_stream(alert_stream.stream_spec(90))
        # The server itself answers the methods that are not under test.
        operators = _Operators()
        servicer = _Servicer(  # pyright: ignore[reportAbstractUsage]
            AlertService(AlertFeed(bus), operators)
        )
        registration = Registration(
            service_name="agentmesh.governor.v1.CostGovernorService",
            add=pb_grpc.add_CostGovernorServiceServicer_to_server,
            servicer=servicer,
        )
        async with serving([registration], to=log.get("test", stream=io.StringIO())) as channels:
            yield _Mesh(bus, pb_grpc.CostGovernorServiceStub(channels.get("governor")), operators)


async def test_an_alert_of_the_past_says_all_that_was_told(mesh: _Mesh) -> None:
    """A watcher gets the alert as it was told, with its sequence."""
    await mesh.tell()
    [alert] = [each async for each in mesh.watch(past_only=True)]
    expected = pb.WatchAlertsResponse(
        budget="tenants/acme/budgets/agent-day-a1",
        kind="ALERT",
        text="Number 1.",
        sequence=1,
        tenant="acme",
        id=alert.id,
        spent_micros=1,
        limit_micros=100,
    )
    expected.time.FromDatetime(_NOW + timedelta(seconds=1))
    assert alert == expected
    assert len(alert.id) == 26


async def test_a_watcher_goes_on_after_what_it_has_seen(mesh: _Mesh) -> None:
    """A negative number is for all of the past, any other for what came after it."""
    for tenant in ("acme", "globex", "acme", "acme"):
        await mesh.tell(tenant)
    assert await mesh.past() == [1, 3, 4]
    assert await mesh.past(after=1) == [3, 4]
    assert await mesh.past(after=2) == [3, 4]
    assert await mesh.past(after=4) == []
    assert await mesh.past(after=99) == []
    assert await mesh.past(after=0) == []


@pytest.mark.parametrize("after", [-1, 0, 2])
async def test_the_past_and_the_present_join(mesh: _Mesh, after: int) -> None:
    """Every alert once and in order, though some are told while a watcher begins."""
    for _ in range(3):
        await mesh.tell()
    seen: list[int] = []

    async def watch() -> None:
        async for alert in mesh.watch(after=after):
            seen.append(alert.sequence)  # noqa: PERF401 - read while it grows

    watching = asyncio.create_task(watch())
    try:
        told = 3
        async with asyncio.timeout(60):
            # One that begins with what comes may begin late.
            while told < 53 or not seen:
                await mesh.tell()
                told += 1
        await eventually(lambda: seen[-1] == told)
        first = seen[0] if after == 0 else max(0, after) + 1
        assert seen == list(range(first, told + 1))
        assert first > after
    finally:
        watching.cancel()


async def test_a_watcher_who_comes_again_misses_and_repeats_nothing(mesh: _Mesh) -> None:
    """Broken off anywhere and taken up after the last one seen, it is all there, once."""
    seen: list[int] = []
    telling = asyncio.create_task(_tell_many(mesh, 40))
    while len(seen) < 40:
        async for alert in mesh.watch(after=seen[-1] if seen else -1):
            seen.append(alert.sequence)
            if len(seen) % 7 == 0 or len(seen) == 40:
                break
    await telling
    assert seen == list(range(1, 41))


async def _tell_many(mesh: _Mesh, count: int) -> None:
    for _ in range(count):
        await mesh.tell()


async def test_a_tenant_sees_its_own_alerts_alone(mesh: _Mesh) -> None:
    """Neither those of others, nor those of all together."""
    for tenant in ("globex", "", "acme"):
        await mesh.tell(tenant)
    assert await mesh.past() == [3]
    assert await mesh.past("tenants/globex") == [1]


async def test_operators_see_all_alerts(mesh: _Mesh) -> None:
    """`tenants/-` is for those of all tenants, and of all together."""
    for tenant in ("globex", "", "acme"):
        await mesh.tell(tenant)
    with pytest.raises(Forbidden) as refused:
        await mesh.past("tenants/-")
    mesh.operators.callers = frozenset({"service:test"})
    assert await mesh.past("tenants/-") == [1, 2, 3]
    assert refused.value.message == (
        "service:test is no operator, and only operators may watch the alerts of all tenants."
    )


async def test_a_tenant_cannot_watch_another(mesh: _Mesh) -> None:
    """Whose alerts are asked for must be who asks, and must be somebody."""
    with pytest.raises(Forbidden):
        await mesh.past("tenants/initech")
    with pytest.raises(InvalidField) as refused:
        await mesh.past("")
    assert [each.field for each in refused.value.violations] == ["parent"]


async def test_a_reader_who_stops_reading_costs_little_and_misses_nothing(mesh: _Mesh) -> None:
    """While it does not read, nothing is gathered for it; the stream keeps that."""
    watching = aiter(mesh.watch())
    sequences = [await mesh.tell(text_bytes=64_000) for _ in range(100)]
    assert (await anext(watching)).sequence == 1
    sequences += [await mesh.tell(text_bytes=64_000) for _ in range(200)]
    seen = [1]
    async for alert in watching:
        seen.append(alert.sequence)
        if alert.sequence == sequences[-1]:
            break
    assert seen == sequences


async def test_a_watcher_hears_of_a_broker_that_is_away(
    mesh: _Mesh, shared_nats: NatsServer
) -> None:
    """A new watcher is refused meanwhile; one that watched goes on when it is back."""
    await mesh.tell()
    seen: list[int] = []

    async def watch() -> None:
        while True:
            with suppress(DependencyUnavailable):
                async for alert in mesh.watch(after=seen[-1] if seen else -1):
                    seen.append(alert.sequence)  # noqa: PERF401 - read while it grows

    watching = asyncio.create_task(watch())
    try:
        await eventually(lambda: seen == [1])
        shared_nats.kill()

        async def refused() -> bool:
            try:
                await mesh.past()
            except DependencyUnavailable:
                return True
            return False

        await eventually(refused)
        await asyncio.to_thread(shared_nats.start)
        assert await mesh.tell() == 2
        await eventually(lambda: seen == [1, 2], timeout_seconds=20)
    finally:
        watching.cancel()
