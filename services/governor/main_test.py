"""The governor as it is put together."""

# Tables of cases have one case a line.
# ruff: noqa: E501

import gc
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path
from typing import Any, cast

import pytest

from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit import config, identity, log, redis_store
from meshkit.bus import Bus
from meshkit.ids import RandomIds
from meshkit.service import Resources, Service
from meshtest.clock import FakeClock
from meshtest.nats_server import NatsServer
from meshtest.redis_server import RedisServer
from meshtest.serving import serving
from services.governor import main
from services.governor.main import build
from services.governor.settings import GovernorSettings, Settings

pytest_plugins = ["meshtest.fixtures"]

_Build = Callable[[Resources, Settings], Awaitable[Service]]


@pytest.fixture
async def resources(
    nats_server: NatsServer, redis_server: RedisServer, clock: FakeClock, tmp_path: Path
) -> AsyncIterator[Resources]:
    """What a process offers; the governor calls nobody."""
    async with AsyncExitStack() as stack:
        yield Resources(
            stack=stack,
            bus=await stack.enter_async_context(
                await Bus.connect(nats_server.url, name="governor")
            ),
            redis=await stack.enter_async_context(redis_store.connect(redis_server.url)),
            channels=cast(Any, None),
            clock=clock,
            ids=RandomIds(),
            log=log.get("governor"),
            data_dir=tmp_path,
        )


async def test_built_service_answers_with_the_limits_of_its_settings(resources: Resources) -> None:
    """Defaults hold for most tenants, and a tenant's own limits for that one."""
    section = GovernorSettings.model_validate(
        {"tenants": {"acme": {"day_limit_micros": 5, "month_limit_micros": 50}}}
    )
    service = await build(resources, section)
    async with serving(service.registrations) as channels:
        stub: Any = pb_grpc.CostGovernorServiceStub(channels.get("governor"))
        limits: list[tuple[int, int]] = []
        for tenant in ("acme", "other"):
            with identity.use(identity.Identity(tenant, "service:test")):
                spend = await stub.GetSpend(
                    pb.GetSpendRequest(parent=f"tenants/{tenant}"), timeout=30
                )
                limits.append((spend.day.limit_micros, spend.month.limit_micros))
    assert limits == [(5, 50), (100_000_000, 2_000_000_000)]


async def test_wrong_price_book_stops_the_start(resources: Resources, tmp_path: Path) -> None:
    """The service is not built on prices that cannot be trusted."""
    path = tmp_path / "prices.yaml"
    path.write_text("currency: EUR\nversions: []\n", "utf-8")
    with pytest.raises(config.ConfigError) as caught:
        await build(resources, GovernorSettings(price_book=path))
    assert str(caught.value) == (
        f"{path}: 2 faults: (1) currency: expected USD, the only one there is, not 'EUR';"
        " (2) versions: expected a list of at least one version, not []"
    )


@pytest.mark.parametrize(
    ("text", "message"),
    [
        ("{day_limit_micros: 0}", "governor.day_limit_micros: should be greater than or equal to 1, not 0"),
        ("{day_limit_micro: 1}", "governor.day_limit_micro is no setting; did you mean day_limit_micros?"),
        ("{alert_percent: 80, degrade_percent: 70}", "governor: degrade_percent must be at least alert_percent, or 0 for never"),
        ("{tenants: {acme: {day_limit_micros: 1}}}", "governor.tenants.acme.month_limit_micros is missing (in the file, or as AGENTMESH_GOVERNOR__TENANTS__ACME__MONTH_LIMIT_MICROS)"),
    ],
)  # fmt: skip
def test_wrong_setting_is_named(tmp_path: Path, text: str, message: str) -> None:
    """One line says which setting is wrong."""
    path = tmp_path / "governor.yaml"
    path.write_text(f"data_dir: /tmp\ngovernor: {text}\n", "utf-8")
    with pytest.raises(config.ConfigError) as caught:
        config.load(Settings, path=path, environ={})
    assert str(caught.value) == f"{path}: {message}"


async def test_a_process_of_its_own_collects_garbage_in_small_portions(
    resources: Resources, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    """No call waits for more than two thousand objects, and none for those of the start."""
    begun: list[_Build] = []

    def serve(name: str, settings: type[Settings], build: _Build) -> None:
        begun.append(build)

    monkeypatch.setattr(main, "serve_program", serve)
    main.main()
    usual, frozen = gc.get_threshold(), gc.get_freeze_count()
    try:
        await begun[0](resources, Settings(data_dir=tmp_path))
        assert gc.get_threshold() == (2_000, *usual[1:])
        assert gc.get_freeze_count() > frozen
    finally:
        gc.set_threshold(*usual)
        gc.unfreeze()
