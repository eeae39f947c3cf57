"""Test-only: a governor whose tenants have a dollar, and calls of one of them."""

from pathlib import Path
from typing import Any, Final, cast

from agentmesh.common.v1 import usage_pb2
from agentmesh.governor.v1 import cost_governor_service_pb2 as pb
from meshkit.redis_line import RedisLine
from meshkit.unbroken import Unbroken
from meshtest.clock import FakeClock
from services.governor.governor_parts import Defaults, governor_parts
from services.governor.price_file import load_prices
from services.governor.scripted_ledger import ScriptedLedger
from services.governor.service import CostGovernorService
from services.governor.spenders import Spenders

ACME: Final = "tenants/acme"
_PRICES: Final = Path(__file__).with_name("prices.yaml")
_DOLLAR: Final = Defaults(1_000_000, 1_000_000)
# They have tests of their own.
_NO_BUDGET_CALLS = _NO_ALERTS = _NO_SPENDING = cast(Any, None)


def dollar_service(
    line: RedisLine, clock: FakeClock, ledger: ScriptedLedger
) -> CostGovernorService:
    """A day and a month of one dollar for each tenant."""
    parts = governor_parts(line, clock, ledger, _DOLLAR, prices=load_prices(_PRICES))
    return CostGovernorService(
        parts.admission,
        parts.leasing,
        parts.settling,
        parts.standings,
        _NO_BUDGET_CALLS,
        alerts=_NO_ALERTS,
        spending=_NO_SPENDING,
        spenders=Spenders(),
        unbroken=Unbroken(),
    )


def admit_request(key: str, **more: Any) -> pb.AdmitRequest:
    """1,000 tokens each way of this model are 0.018 dollars."""
    fields: dict[str, Any] = {
        "parent": ACME,
        "key": key,
        "model": "claude-sonnet-4-5",
        "input_tokens": 1000,
        "max_output_tokens": 1000,
    }
    return pb.AdmitRequest(**(fields | more))


def settle_request(key: str, **usage: int) -> pb.SettleRequest:
    """What a call of that model used."""
    return pb.SettleRequest(
        parent=ACME, key=key, model="claude-sonnet-4-5", usage=usage_pb2.Usage(**usage)
    )
