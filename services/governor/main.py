"""The governor's composition root."""

from pathlib import Path
from typing import Final

from agentmesh.governor.v1 import cost_governor_service_pb2_grpc as pb_grpc
from meshkit.redis_line import RedisLine
from meshkit.redis_store import RedisDependency
from meshkit.server import Registration
from meshkit.service import Resources, Service, serve_program
from services.governor.counters_redis import RedisCounters
from services.governor.governor import CostGovernor, Limits
from services.governor.price_file import load_prices
from services.governor.service import CostGovernorService
from services.governor.settings import GovernorSettings, Settings

_PRICE_BOOK: Final = Path(__file__).with_name("prices.yaml")


async def build(resources: Resources, section: GovernorSettings) -> Service:
    """The governor on these resources. Raises ConfigError for a bad price book."""
    line = await resources.stack.enter_async_context(RedisLine(resources.redis))
    governor = CostGovernor(
        prices=load_prices(section.price_book or _PRICE_BOOK),
        default_limits=Limits(section.day_limit_micros, section.month_limit_micros),
        tenant_limits={
            tenant: Limits(each.day_limit_micros, each.month_limit_micros)
            for tenant, each in section.tenants.items()
        },
        counters=RedisCounters(
            line, resources.clock, remember_settled_seconds=section.remember_settled_seconds
        ),
        clock=resources.clock,
        reservation_seconds=section.reservation_seconds,
    )
    # The server itself answers the methods that this version does not serve.
    servicer = CostGovernorService(governor)  # pyright: ignore[reportAbstractUsage]
    return Service(
        registrations=[
            Registration(
                service_name="agentmesh.governor.v1.CostGovernorService",
                add=pb_grpc.add_CostGovernorServiceServicer_to_server,
                servicer=servicer,
                dependencies=[RedisDependency(resources.redis)],
            )
        ]
    )


def main() -> None:
    """Runs the governor as a process of its own."""
    serve_program("governor", Settings, lambda resources, s: build(resources, s.governor))


if __name__ == "__main__":
    main()
