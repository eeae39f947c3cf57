"""The governor's composition root."""

import asyncio
import gc
import os
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from envoyproxy.ratelimit.v3 import rls_pb2_grpc
from meshkit.operators import Operators
from meshkit.redis_line import RedisLine
from meshkit.redis_store import RedisDependency
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from meshkit.unbroken import Unbroken
from services.governor.admission import Admission, Terms
from services.governor.alert_finder import AlertFinder
from services.governor.alert_parts import build_alerts
from services.governor.alert_recorder import AlertRecorder
from services.governor.alert_service import AlertService
from services.governor.budget import Thresholds
from services.governor.budget_service import BudgetService
from services.governor.budget_store_jetstream import JetStreamBudgets
from services.governor.budgets import Budgets
from services.governor.counters_redis import RedisCounters
from services.governor.forecast_sql import SqlTaskUses
from services.governor.gateway_files import GatewayFiles
from services.governor.gateway_limits import LOCAL, SHARED, local_limits, shared_limits
from services.governor.journal_jetstream import JetStreamJournal
from services.governor.leasing import Leasing
from services.governor.ledger_parts import build_ledger
from services.governor.next_windows import NextWindows
from services.governor.openings import Openings
from services.governor.price_file import load_prices
from services.governor.prompt_openings import PromptOpenings
from services.governor.rate_limit_service import RateLimitServicer
from services.governor.repeats import RepeatMender
from services.governor.request_buckets_redis import RedisRequestBuckets
from services.governor.scopes import Scopes
from services.governor.service import CostGovernorService
from services.governor.settings import GovernorSettings, Settings
from services.governor.settling import Settling
from services.governor.spend_service import SpendService
from services.governor.spenders import Spenders
from services.governor.standings import Standings
from services.governor.streams import StreamAges
from services.governor.sweep import Sweep
from services.governor.tier_budgets import Limits, TierBudgets
from services.governor.usage_stream import usage_stream_spec
from tasklog.policy import Policy
from tasklog.policy_store import PolicyStore

_PRICE_BOOK: Final = Path(__file__).with_name("prices.yaml")
# So many more objects than before make a collection. Each call that gRPC serves leaves a dozen that
# only a collection finds: one of the usual ten times as many kept all calls waiting for 10 ms.
_GARBAGE_OBJECTS: Final = 2_000
# The folder from which the gateway of a mesh reads what tenants may send.
_GATEWAYS: Final = "gateway"


async def build(resources: Resources, section: GovernorSettings) -> Service:
    """The governor on these resources. Raises ConfigError for a bad price book."""
    prices = load_prices(section.price_book or _PRICE_BOOK)
    clock = resources.clock
    policies = PolicyStore(resources.bus)
    await policies.prepare()
    given = TierBudgets(
        policies,
        limits=Limits(section.day_limit_micros, section.month_limit_micros),
        tenant_limits={
            tenant: Limits(each.day_limit_micros, each.month_limit_micros)
            for tenant, each in section.tenants.items()
        },
        thresholds=Thresholds(section.alert_percent, section.degrade_percent),
    )
    budgets = Budgets(given.budgets)
    policies.on_change(budgets.changed)
    scopes = Scopes(budgets)
    store = JetStreamBudgets(
        resources.bus, budgets, clock, most_per_tenant=section.budgets_per_tenant
    )
    await store.prepare()
    journal = JetStreamJournal(resources.bus, resources.ids)
    await journal.prepare(
        usage_stream_spec(keep_days=section.journal_keep_days, max_bytes=section.journal_max_bytes)
    )
    line = await resources.stack.enter_async_context(RedisLine(resources.redis))
    counters = RedisCounters(
        line,
        clock,
        remember_settled_seconds=section.remember_settled_seconds,
        budgets_known=lambda: store.position,
        streams=StreamAges([journal, store]),
    )
    await counters.agree(journal)
    recorder = AlertRecorder(AlertFinder(budgets, clock))
    repeated = asyncio.Event()
    ledger = await build_ledger(
        resources, section.ledger_database, companions=[recorder], on_repeats=repeated.set
    )
    alerts = await build_alerts(
        resources,
        recorder,
        ledger.database,
        keep_days=section.alert_keep_days,
        webhook_settings=section.alert_webhooks,
        environ=os.environ,
    )
    openings = Openings(counters, ledger.balances, clock)
    resources.stack.push_async_callback(openings.close)
    prompt = PromptOpenings(openings)
    admission = Admission(
        prices=prices,
        scopes=scopes,
        tiers=given.model_tiers,
        profiles=ledger.profiles,
        counters=counters,
        openings=prompt,
        reach_budgets=store.reach,
        clock=clock,
        terms=Terms(section.reservation_seconds, section.throttle_seconds),
        notice=alerts.notice,
    )
    leasing = Leasing(
        prices=prices,
        scopes=scopes,
        tiers=given.model_tiers,
        has_sessions=budgets.has_sessions,
        counters=counters,
        openings=prompt,
        reach_budgets=store.reach,
        clock=clock,
        lease_seconds=section.reservation_seconds,
    )
    settling = Settling(
        prices=prices,
        scopes=scopes,
        counters=counters,
        openings=openings,
        journal=journal,
        first_records=ledger.balances,
        reach_budgets=store.reach,
        clock=clock,
    )
    mender = RepeatMender(
        ledger.repeats,
        counters,
        scopes,
        openings,
        journal,
        store.reach,
        clock,
        resources.log,
        wake=repeated,
    )
    standings = Standings(budgets, scopes, counters, openings, store.reach, clock)
    operators = Operators(section.operators)
    unbroken = Unbroken()
    resources.stack.push_async_callback(unbroken.close)
    servicer = CostGovernorService(
        admission,
        leasing,
        settling,
        standings,
        BudgetService(
            budgets, store, counters, standings, operators, given.model_tiers, alerts.notice
        ),
        spending=SpendService(
            ledger.questions, SqlTaskUses(ledger.questions), budgets, operators, clock
        ),
        alerts=AlertService(alerts.feed, operators),
        spenders=Spenders(section.spenders),
        unbroken=unbroken,
    )

    def filters(policy: Policy) -> Mapping[str, Any]:
        return {
            LOCAL: local_limits(policy, section.gateway_tenant),
            SHARED: shared_limits(policy, section.gateway_tenant, section.shared_limits_up_to),
        }

    gateways = GatewayFiles(resources.data_dir / _GATEWAYS, policies, filters, resources.log)
    return Service(
        registrations=[
            Registration(
                service_name="agentmesh.governor.v1.CostGovernorService",
                add=pb_grpc.add_CostGovernorServiceServicer_to_server,
                servicer=servicer,
                dependencies=[RedisDependency(resources.redis), resources.bus],
            ),
            # Who asks in vain lets requests pass: it depends on nothing.
            Registration(
                service_name="envoy.service.ratelimit.v3.RateLimitService",
                add=rls_pb2_grpc.add_RateLimitServiceServicer_to_server,
                servicer=RateLimitServicer(policies, RedisRequestBuckets(line)),
                guarded=False,
            ),
        ],
        background=[
            policies.follow,
            store.follow,
            gateways.keep,
            openings.run,
            mender.run,
            NextWindows(scopes, counters, openings, clock).run,
            Sweep(counters, clock).run,
            *ledger.background,
            *alerts.background,
        ],
    )


async def _build_alone(resources: Resources, settings: Settings) -> Service:
    service = await build(resources, settings.governor)
    # What there is now stays, and need not be looked at again.
    gc.freeze()
    gc.set_threshold(_GARBAGE_OBJECTS, *gc.get_threshold()[1:])
    return service


def main() -> None:
    """Runs the governor as a process of its own."""
    serve_program("governor", Settings, _build_alone)


if __name__ == "__main__":
    main()
